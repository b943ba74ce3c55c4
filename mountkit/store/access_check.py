"""Everything a save will need of a store, tried in seconds, before the first step.

By what every store can be asked. S3 has one of its own, which tells regions and clocks as well.
"""

from __future__ import annotations

import copy
import secrets
from typing import TYPE_CHECKING, Protocol

from mountkit.errors import MountkitError, MountUnavailableError, PermissionDeniedError
from mountkit.names import PROBE_NAME
from mountkit.store.base import Store, StoreFacts
from mountkit.store.place import ATTEMPTS
from mountkit.store.preflight import AGAIN_SECONDS, PROBE_BODY, Preflight

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


def check(
    store: Checked,
    *,
    write: bool = True,
    seconds: float = 6.0,
    pause: float = AGAIN_SECONDS,
) -> StoreFacts:
    """Try every request a save will make, and say what is wrong with the first that fails.

    Parameters
    ----------
    store:
        Where checkpoints will go.
    write:
        Whether to write and delete a throw-away object as well.
    seconds:
        After how long without an answer to give up, whatever the store does or does not do.
    pause:
        After how many seconds to try once more, where the store refuses in a way that may pass.

    Raises
    ------
    ConfigurationError
        No credentials, or no such bucket.
    PermissionDeniedError
        The credentials are refused, or may not list, write, read or delete.
    MountUnavailableError
        The store cannot be reached, or not in time; or this machine is too busy to ask it.
    """
    return _Trial(hurried(store, seconds), write=write).within(seconds, pause)


def hurried(store: T, seconds: float) -> T:
    """The same store, for a first look: one try may take all of the time."""
    other = copy.copy(store)
    other.patience = min(store.patience, seconds * ATTEMPTS)
    return other


_FIND = "find credentials for"


class _Trial(Preflight):
    def __init__(self, store: Checked, *, write: bool) -> None:
        super().__init__(store.source.url, _FIND)
        self._store = store
        self._write = write

    def silent(self, seconds: float) -> MountkitError:
        if self.doing == _FIND:
            return self._store.no_credentials()
        return MountUnavailableError(
            f"The store at {self._store.endpoint} gave no answer in {seconds:g} s when mountkit "
            f"tried to {self.doing} {self._url}.",
            hint=f"Check the network. Then: mountkit doctor {self._url}",
        )

    def run(self) -> StoreFacts:
        store = self._store
        credentials = store.credentials()
        self.doing = "list"
        next(iter(store.list()), None)
        dated = self._write_and_delete() if self._write else None
        return StoreFacts(
            url=self._url,
            endpoint_url=store.endpoint,
            region="",
            credentials=credentials,
            written=self._write,
            seconds=self.seconds,
            dated=dated,
        )

    def _write_and_delete(self) -> datetime | None:
        """When the store dated what was written, if it does."""
        store = self._store
        path = f"{PROBE_NAME}{secrets.token_hex(8)}"
        self._try("write", path, lambda: store.put(path, PROBE_BODY))
        try:
            found = self._try("attest", path, lambda: store.stat(path))
        finally:
            self._try("delete", path, lambda: store.delete([path]))
        return found.modified if found is not None else None

    def _try(self, doing: str, path: str, request: Callable[[], Answer]) -> Answer:
        self.doing = doing
        try:
            return request()
        except PermissionDeniedError as error:
            right = self._store.rights[doing]
            url = self._store.url(path)
            prefix = url.rpartition("/")[0]
            left = f" The object is left behind: {url}" if doing == "delete" else ""
            found = PermissionDeniedError(
                f"{error.message} {prefix} can be listed, but {right} does not work there.{left}",
                hint=f"Allow {right} there, then: mountkit doctor {prefix}",
            )
            found.may_pass = error.may_pass
            raise found from error
