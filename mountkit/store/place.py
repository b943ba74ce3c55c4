"""What is the same in every store: its source, how long it may be asked, and what follows."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from mountkit.spec import StoreOptions
from mountkit.store.base import SMALL_OBJECT_BYTES, WORKERS
from mountkit.timing import Deadline, at_once

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

    from mountkit.spec import Source
    from mountkit.store.base import Attestation, Version

PATIENCE_SECONDS = 60.0
ATTEMPTS = 3


class Place(ABC):
    """What a store begins with; see :class:`mountkit.store.base.Store`.

    ``patience`` is about how long, in seconds, one request may go unanswered, retries included;
    less where a ``deadline`` comes near. Once it has passed, nothing is asked any more.
    """

    lists_checksums: ClassVar[bool] = False

    def __init__(
        self,
        source: Source,
        options: StoreOptions | None = None,
        *,
        patience: float | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self.source = source
        self.options = options or StoreOptions()
        self.patience = patience or PATIENCE_SECONDS
        self.deadline = deadline or Deadline()
        self._prepare()

    def _prepare(self) -> None:  # noqa: B027 - a store may keep none
        """Make what the clients of this kind of store are kept in; nothing is asked yet."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source.url!r})"

    def at(self, source: Source) -> Self:
        """The same store at another place; its clients are shared."""
        other = copy.copy(self)
        other.source = source
        return other

    def url(self, path: str) -> str:
        """The URL of a path below the source."""
        return self.source.child(path.rstrip("/")).url if path else self.source.url

    @abstractmethod
    def stat(self, path: str) -> Attestation | None:
        """What the store says about an object, or None if it is not there."""

    def stat_many(
        self, paths: Iterable[str], workers: int = WORKERS
    ) -> Mapping[str, Attestation | None]:
        """The same for many objects, each asked for, ``workers`` at a time."""
        wanted = tuple(paths)
        with at_once(workers, "attest") as pool:
            return dict(zip(wanted, pool.map(self.stat, wanted), strict=True))

    @abstractmethod
    def read(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> Version:
        """A small object as it is now, or that it is not there."""

    def get(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> bytes | None:
        """The bytes of a small object, or None if it is not there.

        Raises VerificationError if it has more than ``limit`` bytes.
        """
        return self.read(path, limit=limit).data

    def _below(self, prefix: str) -> str:
        """What the keys of all that is below a directory begin with."""
        key = self.source.key(prefix.strip("/"))
        return f"{key}/" if key else ""

    def _relative(self, key: str) -> str:
        return key[len(self.source.prefix) + 1 :] if self.source.prefix else key
