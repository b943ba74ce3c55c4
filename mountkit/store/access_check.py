"""Everything a save will need of a store, tried in seconds, before the first step.

By what every store can be asked. S3 has one of its own, which tells regions and clocks as well.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Protocol

from mountkit.errors import MountkitError, MountUnavailableError, PermissionDeniedError
from mountkit.store.base import Store, StoreFacts
from mountkit.store.place import ATTEMPTS
from mountkit.store.preflight import PROBE_BODY, Preflight, denied

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from typing import TypeVar

    Answer = TypeVar("Answer")
    T = TypeVar("T", bound="Checked")


class Checked(Store, Protocol):
    """A store that says of itself what the messages need."""

    patience: float

    @property
    def endpoint(self) -> str:
        """Where its requests go, fit for a message."""
        ...

    @property
    def rights(self) -> Mapping[str, str]:
        """What the right to ``list``, ``attest``, ``write`` and ``delete`` is called."""
        ...

    def credentials(self) -> str:
        """Find them; where they are from. Never what they are."""
        ...

    def no_credentials(self) -> MountkitError:
        """What it means that they were looked for in vain until the time was up."""
        ...


def check(store: Checked, *, write: bool = True, seconds: float = 6.0) -> StoreFacts:
    """Try every request a save will make, within ``seconds``; see ``Preflight.within``.

    Without ``write`` nothing is written to try.
    """
    return _Trial(hurried(store, seconds), write=write).within(seconds)


def hurried(store: T, seconds: float) -> T:
    """The same store, for a first look: one try may take all of the time."""
    other = copy.copy(store)
    other.patience = min(store.patience, seconds * ATTEMPTS)
    return other


_FIND = "find credentials for"


class _Trial(Preflight):
    def __init__(self, store: Checked, *, write: bool) -> None:
        super().__init__(store.source.url, _FIND, write=write)
        self._store = store

    def silent(self, seconds: float) -> MountkitError:
        if self.doing == _FIND:
            return self._store.no_credentials()
        return MountUnavailableError(
            f"The store at {self._store.endpoint} gave no answer in {seconds:g} s when mountkit "
            f"tried to {self.doing} {self._url}.",
            hint=f"Check the network. Then: mountkit doctor {self._url}",
        )

    def reach(self) -> tuple[str, str, str]:
        credentials = self._store.credentials()
        self.doing = "list"
        next(iter(self._store.list()), None)
        return self._store.endpoint, "", credentials

    def put(self, name: str) -> None:
        self._store.put(name, PROBE_BODY)

    def dated(self, name: str) -> datetime | None:
        found = self.attempt("attest", name, lambda: self._store.stat(name))
        return found.modified if found is not None else None

    def delete(self, name: str) -> None:
        self._store.delete([name])

    def attempt(self, doing: str, name: str, request: Callable[[], Answer]) -> Answer:
        try:
            return super().attempt(doing, name, request)
        except PermissionDeniedError as error:
            right, url = self._store.rights[doing], self._store.url(name)
            raise denied(error, doing, right, url) from error
