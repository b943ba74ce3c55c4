"""How long to wait: a deadline that a signal may set, the loop that polls, threads that ask."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from mountkit.errors import TimeUpError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor

    Result = TypeVar("Result")

# So many waits one after the other may be in vain before a deadline.
WAITS = 4
SHORTEST_SECONDS = 1.0


class Deadline:
    """Not set at first. Set by a signal handler, and looked at by whatever waits.

    One ``within`` another is over by then as well, whenever that one is set.
    """

    def __init__(self, within: Deadline | None = None) -> None:
        self._at: float | None = None
        self._within = within

    def set(self, seconds: float) -> None:
        """So many seconds from now. Set again, the earlier one counts."""
        at = time.monotonic() + seconds
        self._at = at if self._at is None else min(self._at, at)

    @property
    def left(self) -> float | None:
        """Seconds that are left, at least 0.0; None while there is no deadline."""
        at = self._at
        own = None if at is None else max(0.0, at - time.monotonic())
        around = None if self._within is None else self._within.left
        return min((left for left in (own, around) if left is not None), default=None)

    @property
    def passed(self) -> bool:
        """Whether there is no time left."""
        return self.left == 0.0

    def cut(self, seconds: float) -> float:
        """How long one wait of at most ``seconds`` may be: none may use up the time left."""
        left = self.left
        return seconds if left is None else min(seconds, max(SHORTEST_SECONDS, left / WAITS))

    def check(self) -> None:
        """Go on only while there is time; for whatever reads on and on.

        Raises TimeUpError if there is none left.
        """
        if self.passed:
            raise TimeUpError(
                "The time was up before all of it was proven to be in the store.",
                hint="What waits for its upload is uploaded when the same mount is made again.",
            )


POLL_SECONDS = 0.1


def wait_until(
    condition: Callable[[], Result], timeout: float, pause: float = POLL_SECONDS
) -> Result:
    """Ask for something until it is true, or ``timeout`` seconds have gone by; the last answer."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()) and time.monotonic() < deadline:
        time.sleep(pause)
    return answer


@contextmanager
def at_once(number: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads that ask a store at the same time; all have ended at the end of the block.

    But not after what a signal raises: a request under way may take a minute, and nobody waits for
    its answer.
    """
    from concurrent.futures import ThreadPoolExecutor

    pool, waits = ThreadPoolExecutor(number, thread_name_prefix=name), True
    try:
        yield pool
    except (KeyboardInterrupt, SystemExit):
        waits = False
        raise
    finally:
        pool.shutdown(wait=waits, cancel_futures=not waits)
