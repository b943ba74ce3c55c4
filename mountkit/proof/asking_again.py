"""How long a refusal is asked about again before it is final. Reads clocks, does no I/O.

The store tells for how long a refusal may pass (``MountkitError.may_pass``): credentials are being
renewed, a clock is being set, or a right is just being given. What a store says once in passing
must not leave a checkpoint unproven, and nobody waits long for a key that is plainly wrong.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mountkit.backends.base import CacheLostError
from mountkit.errors import MountkitError, MountUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable


class Refusals:
    """What was refused, and since when, each by a name of the caller's choice."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def final(self, what: str, may_pass: float) -> bool:
        """Note one more refusal; whether it has been so for as long as it may pass."""
        now = self._clock()
        return now - self._since.setdefault(what, now) >= may_pass

    def over(self, what: str) -> None:
        """It was not refused this time."""
        self._since.pop(what, None)


class Endurance:
    """How long one goes on who gets no answer, or is refused, and settles nothing.

    ``stall`` is the stall timeout, in seconds, for which ``troubles`` are waited out.
    """

    def __init__(
        self,
        stall: float,
        troubles: tuple[type[MountkitError], ...] = (MountUnavailableError,),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stall = stall
        self._troubles = troubles
        self._clock = clock
        self._moved = clock()
        self._settled = 0
        self._refusals = Refusals(clock)

    def ends(self, error: MountkitError, settled: int) -> bool:
        """Whether to give up; ``settled`` is how much has been settled so far."""
        if settled > self._settled:
            self._moved, self._settled = self._clock(), settled
        if self._clock() - self._moved > self._stall:
            return True
        if isinstance(error, CacheLostError):
            return True
        if isinstance(error, self._troubles):
            self._refusals.over("")
            return False
        return self._refusals.final("", error.may_pass)
