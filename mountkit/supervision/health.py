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
class Limits:
    """Seconds: between two probes, until one counts as unanswered, until silence is a hang."""

    interval: float = 0.5
    probe: float = 5.0
    hang: float = 60.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a mount at one moment.

    ``ended`` says how the daemon ended, "" while it runs. ``entry`` describes what is mounted
    there, "" for nothing; ``ours`` whether it is our mount. ``error`` is the errno of the last
    answer, 0 if it was none. ``unanswered`` is for how many seconds a probe waits by now, 0.0 if
    none does; ``process_state`` the daemon's state by proc(5), and ``idle`` for how many seconds it
    has used no processor time. ``waiting`` counts the requests the kernel waits for, None where it
    does not say. ``cut_off`` is for how many seconds a daemon is silent that the prober's helper
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
    cut_off: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What it is, why, and the sentence that says so."""

    health: Health
    cause: Cause = Cause.NONE
    reason: str = ""


WELL = Verdict(Health.WELL)


def judge(sight: Sight, limits: Limits) -> Verdict:
    """What is the matter with a mount, the plainest evidence first."""
    if sight.cut_off:
        silence = f"it has not answered for {sight.cut_off:.0f} s"
        return Verdict(Health.BROKEN, Cause.HUNG, f"{silence}, and nor could its supervisor run")
    if sight.ended:
        return Verdict(Health.BROKEN, Cause.DIED, sight.ended)
    if not sight.entry:
        return Verdict(Health.BROKEN, Cause.UNMOUNTED, "somebody unmounted it")
    if not sight.ours:
        return Verdict(Health.FOREIGN, Cause.UNMOUNTED, f"{sight.entry} is mounted over it")
    if sight.error in BROKEN:
        return Verdict(Health.BROKEN, Cause.DIED, f"it answers: {os.strerror(sight.error)}")
    if sight.unanswered < limits.probe:
        return WELL
    return _unanswered(sight, limits)


def _unanswered(sight: Sight, limits: Limits) -> Verdict:
    silence = f"it has not answered for {sight.unanswered:.0f} s"
    if sight.waiting:
        silence += f", {sight.waiting} requests wait"
    if sight.process_state in STOPPED:
        return Verdict(Health.BROKEN, Cause.HUNG, f"{silence}, and its daemon is stopped")
    if sight.waiting == 0:
        # The question has not got there: whoever asks is silent, not the mount.
        return Verdict(Health.SLOW, Cause.NONE, f"{silence}, but nothing waits for it")
    still = min(sight.unanswered, sight.idle)
    if still >= limits.hang:
        return Verdict(Health.BROKEN, Cause.HUNG, f"{silence}, and its daemon does nothing")
    if sight.unanswered >= PATIENCE * limits.hang:
        return Verdict(Health.BROKEN, Cause.HUNG, silence)
    return Verdict(Health.SLOW, Cause.NONE, f"{silence}; its daemon works")


def health_limits(settings: Settings) -> Limits:
    """When a mount counts as hung."""
    return Limits(settings.probe_interval, settings.probe_timeout, settings.hang_timeout)
