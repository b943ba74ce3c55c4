"""Sleep until the time is up, a process ends, or another thread wakes the sleeper."""

from __future__ import annotations

import os

from mountkit.linux.process import wait_for_end


class Waker:
    """One sleeper, and whoever wakes it."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def wake(self) -> None:
        """End the sleep under way, or the next one at once; and each after that."""
        os.write(self._writer, b"x")

    def sleep(self, seconds: float, pid: int | None) -> None:
        """Until the process ends, somebody wakes us, or the time is up."""
        wait_for_end(pid, self._reader, seconds)

    def close(self) -> None:
        """Nobody sleeps here any more."""
        os.close(self._reader)
        os.close(self._writer)
