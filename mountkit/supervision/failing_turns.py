"""A supervisor whose turns fail: what is said of it, how long it waits, and when it gives up.

What this machine lacks for a while (processes, memory, descriptors) is waited for, however long. An
error that nobody foresaw may come again each time: then the mount is given up in the end, and not
left for watched.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mountkit.events import Problem
from mountkit.supervision.restart_policy import FLAPPING_SECONDS, pause_before

if TYPE_CHECKING:
    from mountkit.events import Observer

logger = logging.getLogger("mountkit")

LACKING_SECONDS = 0.5


class FailingTurns:
    """Counts the turns of one supervisor that ended with an error nobody foresaw, in a row."""

    def __init__(self, target: str, attempts: int, observer: Observer) -> None:
        self._target = target
        self._attempts = attempts
        self._observer = observer
        self._said = ""
        self._unasked = ""
        self._failures = 0

    def unasked(self, problem: str) -> None:
        """Nobody can ask the mount, and why; "" if somebody can."""
        if problem and not self._unasked:
            self._observer(
                Problem(
                    f"Whether the mount at {self._target} hangs is not known: {problem}. See what "
                    "ends it, such as a limit of memory or processes: dmesg"
                )
            )
        self._unasked = problem

    def lacking(self, error: OSError | MemoryError) -> float:
        """The machine lacks something just now; seconds until the next turn."""
        why = str(error) or type(error).__name__
        self._say(f"The mount at {self._target} cannot be watched now: {why}")
        return LACKING_SECONDS

    def unforeseen(self, error: Exception) -> float | None:
        """Seconds until the next turn; None if there have been too many."""
        self._failures += 1
        logger.error(
            "mountkit: the supervisor of %s failed, %d in a row",
            self._target,
            self._failures,
            exc_info=error,
        )
        self._say(
            f"The supervisor of the mount at {self._target} failed, and goes on: {_told(error)}. "
            f"See: mountkit status {self._target}"
        )
        if self._failures >= self._attempts:
            return None
        return pause_before(self._failures, FLAPPING_SECONDS, 1.0)

    def reason(self, error: Exception) -> str:
        """Why the mount is given up."""
        return (
            f"its supervisor failed {self._failures} times in a row, the last time with "
            f"{_told(error)}. The mount is not watched any more: end what uses it, and mount "
            f"it anew. See: mountkit status {self._target}"
        )

    def over(self) -> None:
        """A turn went well."""
        self._said, self._failures = "", 0

    def _say(self, text: str) -> None:
        if text != self._said:
            self._observer(Problem(text))
        self._said = text


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
