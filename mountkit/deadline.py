"""A moment by which all has to be over, and that nobody knows before a signal comes."""

from __future__ import annotations

import time


class Deadline:
    """Not set at first. Set by a signal handler, and looked at by whatever waits."""

    def __init__(self) -> None:
        self._at: float | None = None

    def set(self, seconds: float) -> None:
        """So many seconds from now. Set again, the earlier one counts."""
        at = time.monotonic() + seconds
        self._at = at if self._at is None else min(self._at, at)

    @property
    def left(self) -> float | None:
        """Seconds that are left, at least 0.0; None while there is no deadline."""
        at = self._at
        return None if at is None else max(0.0, at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether there is no time left."""
        return self.left == 0.0
