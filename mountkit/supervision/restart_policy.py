"""What is done about a mount, once ``health`` has judged it, and when. No I/O."""

from __future__ import annotations

from enum import Enum

from mountkit.supervision.health import Health

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
FLAPPING_SECONDS = 5.0


class Action(Enum):
    """What the supervisor does next."""

    STAY = "stay"
    WAIT = "wait"
    REMOUNT = "remount"
    GIVE_UP = "give up"
    STOP = "stop"


def decide(found: Health, failures: int, attempts: int, *, stop_asked: bool) -> Action:
    """What to do, after ``failures`` failed remounts in a row of ``attempts`` allowed."""
    if stop_asked:
        return Action.STOP
    if found in {Health.WELL, Health.SLOW}:
        return Action.STAY
    if found is Health.FOREIGN:
        # Not ours to take away, and below it our mount is as it was.
        return Action.WAIT
    return Action.REMOUNT if failures < attempts else Action.GIVE_UP


def pause_before(failures: int, served: float, jitter: float) -> float:
    """Seconds to wait before the next attempt: none at first, then doubling up to 30.

    ``served`` is how many seconds the mount had served before it was lost: one that dies at once,
    again and again, is not restarted in a tight loop. ``jitter`` between 0 and 1 spreads many
    machines that lost the same store.
    """
    if failures == 0 and served >= FLAPPING_SECONDS:
        return 0.0
    pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(max(0, failures - 1), 10), LONGEST_PAUSE_SECONDS)
    return pause * (0.5 + 0.5 * jitter)
