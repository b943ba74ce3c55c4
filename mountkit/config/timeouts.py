"""How long to wait for what."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mountkit.timing import Deadline

if TYPE_CHECKING:
    from mountkit.config.settings import Settings

# A store that takes longer for one request is not slow, but away.
SLOW_STORE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait for what, in seconds; a plain value for modules that read no settings.

    ``deadline`` is that of a signal, or of a whole drain; it ends every wait for the store.
    """

    stall: float
    drain: float
    repair: float
    grace: float | None = None
    deadline: Deadline = field(default_factory=Deadline, compare=False)

    @property
    def patience(self) -> float:
        """How long one request may go unanswered, retries included.

        Where a signal may come, it must not find one under way that outlasts the grace; nor must a
        store that is only slow be given up for that.
        """
        if self.grace is None:
            return self.stall
        return min(self.stall, max(SLOW_STORE_SECONDS, self.grace / 2))

    def over(self, began: float) -> bool:
        """Whether a drain or a proof that began then, on the monotonic clock, has to end."""
        return self.deadline.passed or time.monotonic() - began > self.drain

    def until(self, deadline: Deadline) -> Limits:
        """The same, to be over by ``deadline``: no single request may use up the time left."""
        return replace(self, stall=deadline.cut(self.stall), deadline=deadline)

    def begun(self) -> Limits:
        """The same for something that begins now: all that it does is over by one moment."""
        deadline = Deadline(within=self.deadline)
        deadline.set(self.drain)
        return replace(self, deadline=deadline)


def limits(settings: Settings) -> Limits:
    """The waits of the proof and the drain."""
    return Limits(
        settings.stall_timeout, settings.drain_timeout, settings.repair_timeout, settings.grace
    )
