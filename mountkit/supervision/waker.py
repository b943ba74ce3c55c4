"""Sleep until the time is up, a process ends, or another thread wakes the sleeper."""

from __future__ import annotations

import os
import select


class Waker:
    """One sleeper, and whoever wakes it."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def wake(self) -> None:
        """End the sleep under way, or the next one at once; and each after that."""
        os.write(self._writer, b"x")

    def sleep(self, seconds: float, pid: int | None) -> None:
        """Until the process ends, somebody wakes us, or the time is up."""
        watched = [self._reader]
        descriptor = None
        if pid is not None:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                return
            watched.append(descriptor)
        try:
            poll = select.poll()
            for number in watched:
                poll.register(number, select.POLLIN)
            # Not select, which takes no descriptor over 1023: a training may have that many.
            poll.poll(seconds * 1000)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def close(self) -> None:
        """Nobody sleeps here any more."""
        os.close(self._reader)
        os.close(self._writer)
