"""Is a mount well, broken or somebody else's? The whole judgement; no I/O.

A daemon that hangs is told from one whose store is slow: a stopped process answers nothing ever,
while one that waits for its store uses its processor now and then, and answers in the end.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mountkit.config.settings import Settings

#: What a mount answers when nobody serves it any more, or when its daemon cut it off.
BROKEN = frozenset(
    {errno.ENOTCONN, errno.ECONNABORTED, errno.ECONNREFUSED, errno.EIO, errno.ENXIO, errno.ESTALE}
)
#: The states of a process, by proc(5), that it does not leave by itself: stopped, traced, dead.
STOPPED = frozenset("TtXZ")
# However busy it is: after so many times the hang timeout without an answer it is given up.
PATIENCE = 5


class Health(Enum):
    """What a mount is."""

    WELL = "well"
    SLOW = "slow"
    BROKEN = "broken"
    FOREIGN = "foreign"


class Cause(Enum):
    """Why a mount is not well, in few words: what the metrics count by."""

    NONE = ""
    DIED = "died"
    HUNG = "hung"
    UNMOUNTED = "unmounted"


@dataclass(frozen=True, slots=True)
class HealthLimits:
    """Seconds: between two probes, until one counts as unanswered, until silence is a hang."""

    interval: float = 0.5
    probe: float = 5.0
    hang: float = 60.0


@dataclass(frozen=True, slots=True)
class Observation:
    """What is seen of a mount at one moment.

    ``ended`` says how the daemon ended, "" while it runs. ``entry`` describes what is mounted
    there, "" for nothing; ``ours`` whether it is our mount. ``error`` is the errno of the last
    answer, 0 if it was none. ``unanswered`` is for how many seconds a probe waits by now, 0.0 if
    none does; ``process_state`` the daemon's state by proc(5), and ``idle`` for how many seconds it
    has used no processor time. ``waiting`` counts the requests the kernel waits for, None where it
    does not say. ``served`` is whether a daemon serves it; else it is a disk of its own.
    ``aborted_by_helper`` is for how many seconds a daemon is silent that the helper
    had to end, because the supervisor could not run; 0.0 if it did not.
    """

    ended: str = ""
    entry: str = ""
    ours: bool = False
    error: int = 0
    unanswered: float = 0.0
    process_state: str = "S"
    idle: float = 0.0
    waiting: int | None = None
    served: bool = True
    aborted_by_helper: float = 0.0


@dataclass(frozen=True, slots=True)
class HealthVerdict:
    """What it is, why, and the sentence that says so."""

    health: Health
    cause: Cause = Cause.NONE
    reason: str = ""


@dataclass(slots=True)
class Loss:
    """A mount that was lost at that time of the monotonic clock, until it serves again."""

    at: float
    cause: Cause
    remounted: bool = False


WELL = HealthVerdict(Health.WELL)


def judge(seen: Observation, limits: HealthLimits) -> HealthVerdict:
    """What is the matter with a mount, the plainest evidence first."""
    if seen.aborted_by_helper:
        silence = f"it has not answered for {seen.aborted_by_helper:.0f} s"
        return HealthVerdict(
            Health.BROKEN, Cause.HUNG, f"{silence}, and nor could its supervisor run"
        )
    if seen.ended:
        return HealthVerdict(Health.BROKEN, Cause.DIED, seen.ended)
    if not seen.entry:
        return HealthVerdict(Health.BROKEN, Cause.UNMOUNTED, "somebody unmounted it")
    if not seen.ours:
        return HealthVerdict(Health.FOREIGN, Cause.UNMOUNTED, f"{seen.entry} is mounted over it")
    if seen.error in BROKEN:
        return HealthVerdict(Health.BROKEN, Cause.DIED, f"it answers: {os.strerror(seen.error)}")
    if seen.unanswered < limits.probe:
        return WELL
    return _unanswered(seen, limits)


def _unanswered(seen: Observation, limits: HealthLimits) -> HealthVerdict:
    silence = f"it has not answered for {seen.unanswered:.0f} s"
    if not seen.served:
        # As NFS waits for its server: nobody here could do anything else.
        return HealthVerdict(Health.SLOW, Cause.NONE, f"{silence}; its file system waits")
    if seen.waiting:
        silence += f", {seen.waiting} requests wait"
    if seen.process_state in STOPPED:
        return HealthVerdict(Health.BROKEN, Cause.HUNG, f"{silence}, and its daemon is stopped")
    if seen.waiting == 0:
        # The question has not got there: whoever asks is silent, not the mount.
        return HealthVerdict(Health.SLOW, Cause.NONE, f"{silence}, but nothing waits for it")
    still = min(seen.unanswered, seen.idle)
    if still >= limits.hang:
        return HealthVerdict(Health.BROKEN, Cause.HUNG, f"{silence}, and its daemon does nothing")
    if seen.unanswered >= PATIENCE * limits.hang:
        return HealthVerdict(Health.BROKEN, Cause.HUNG, silence)
    return HealthVerdict(Health.SLOW, Cause.NONE, f"{silence}; its daemon works")


def health_limits(settings: Settings) -> HealthLimits:
    """When a mount counts as hung."""
    return HealthLimits(settings.probe_interval, settings.probe_timeout, settings.hang_timeout)
