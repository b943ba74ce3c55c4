"""How long a preflight takes at most, and what it means when the store says nothing."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from mountkit.store.base import StoreFacts

AGAIN_SECONDS = 2.0
PROBE_BODY = b"mountkit tried whether it may write here. This object can be deleted.\n"


class Preflight(ABC):
    """Everything a save will need of a store, tried in seconds, before the first step.

    ``doing`` is what it is at, for the message if it never comes back.
    """

    def __init__(self, url: str, doing: str) -> None:
        self._url = url
        self._started = time.monotonic()
        self._refused: MountkitError | None = None
        self.doing = doing

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return round(time.monotonic() - self._started, 3)

    @abstractmethod
    def run(self) -> StoreFacts:
        """Try every request a save will make; raise what the first that fails means."""

    @abstractmethod
    def silent(self, seconds: float) -> MountkitError:
        """What it means that the store gave no answer in so many seconds."""

    def within(self, seconds: float, pause: float = AGAIN_SECONDS) -> StoreFacts:
        """Run, and give up after ``seconds`` without an answer, whatever the store does.

        Time limits of a client count per address and per request; a thread bounds all of it, name
        look-ups and credential helpers included. A refusal that may pass is tried once more after
        ``pause`` seconds.

        Raises what ``run`` raises; MountUnavailableError if this machine is too busy to ask.
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
