"""What every preflight tries, how long it takes at most, and what a refusal means."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    PermissionDeniedError,
)
from mountkit.linux import unanswered
from mountkit.names import PROBE_NAME
from mountkit.store.base import StoreFacts

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import TypeVar

    Answer = TypeVar("Answer")

AGAIN_SECONDS = 2.0
PROBE_BODY = b"mountkit tried whether it may write here. This object can be deleted.\n"


class Preflight(ABC):
    """Everything a save will need of a store, tried in seconds, before the first step.

    ``doing`` is what it is at, for the message if it never comes back. ``write`` says whether to
    write and delete a throw-away object as well.
    """

    def __init__(self, url: str, doing: str, *, write: bool) -> None:
        self._url = url
        self._write = write
        self._started = time.monotonic()
        self._refused: MountkitError | None = None
        self.doing = doing

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return round(time.monotonic() - self._started, 3)

    @abstractmethod
    def reach(self) -> tuple[str, str, str]:
        """Find credentials, and list: the endpoint, its region, and where those come from."""

    @abstractmethod
    def put(self, name: str) -> None:
        """Write the throw-away object."""

    @abstractmethod
    def dated(self, name: str) -> datetime | None:
        """When the store dated it, if it does."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete it."""

    @abstractmethod
    def silent(self, seconds: float) -> MountkitError:
        """What it means that the store gave no answer in so many seconds."""

    def attempt(self, doing: str, name: str, request: Callable[[], Answer]) -> Answer:  # noqa: ARG002
        """Make one request about the throw-away object; a store may know what its error means."""
        self.doing = doing
        return request()

    def run(self) -> StoreFacts:
        """Try every request a save will make, and say what is wrong with the first that fails.

        Raises
        ------
        ConfigurationError
            No credentials, no such bucket or remote, or a setting that is wrong.
        PermissionDeniedError
            The credentials are refused, or may not list, write, read or delete.
        MountUnavailableError
            The store cannot be reached.
        """
        endpoint, region, credentials = self.reach()
        dated = self._write_and_delete() if self._write else None
        return StoreFacts(
            url=self._url,
            endpoint_url=endpoint,
            region=region,
            credentials=credentials,
            written=self._write,
            seconds=self.seconds,
            dated=dated,
        )

    def _write_and_delete(self) -> datetime | None:
        name = f"{PROBE_NAME}{secrets.token_hex(8)}"
        self.attempt("write", name, lambda: self.put(name))
        try:
            return self.dated(name)
        finally:
            self.attempt("delete", name, lambda: self.delete(name))

    def within(self, seconds: float, pause: float = AGAIN_SECONDS) -> StoreFacts:
        """Run, and give up after ``seconds`` without an answer, whatever the store does.

        Time limits of a client count per address and per request; a thread bounds all of it, name
        look-ups and credential helpers included. A refusal that may pass is tried once more after
        ``pause`` seconds.

        Raises what ``run`` raises; MountUnavailableError also if the store does not answer in time,
        or if this machine is too busy to ask it.
        """
        try:
            return unanswered.within(seconds, lambda: self._run_patiently(pause))
        except unanswered.BusyError:
            raise MountUnavailableError(
                f"mountkit could not {self.doing} {self._url} within "
                f"{seconds + unanswered.BUSY_SECONDS:.0f} s: this machine hardly let it run.",
                hint="See what keeps the processors or the disk busy: top. Then: mountkit doctor "
                f"{self._url}",
            ) from None
        except unanswered.SilentError:
            raise self._refused or self.silent(seconds) from None

    def _run_patiently(self, pause: float) -> StoreFacts:
        try:
            return self.run()
        except (ConfigurationError, PermissionDeniedError) as error:
            if not error.may_pass:
                raise
            # What the store said the first time, while it is tried once more.
            self._refused = error
        time.sleep(pause)
        return self.run()


def denied(
    error: MountkitError, doing: str, right: str, url: str, cure: str = "there"
) -> PermissionDeniedError:
    """What it means that a place can be listed, and one ``right`` to it is not had."""
    prefix = url.rpartition("/")[0]
    left = f" The object is left behind: {url}" if doing == "delete" else ""
    found = PermissionDeniedError(
        f"{error.message} {prefix} can be listed, but {right} does not work there.{left}",
        hint=f"Allow {right} {cure}, then: mountkit doctor {prefix}",
    )
    found.may_pass = error.may_pass
    return found
