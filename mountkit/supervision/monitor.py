"""What a supervisor sees of its mount: the daemon, the mount table, and what the prober has heard.

It never touches the mount: the prober's helper does.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mountkit.linux.process import Activity
from mountkit.supervision.health import HealthLimits, HealthVerdict, Observation, judge
from mountkit.supervision.prober import Answered, Guarded

if TYPE_CHECKING:
    from mountkit.linux.process import ProcessIdentity
    from mountkit.mounts.mounting import Mounting
    from mountkit.supervision.prober import Prober

LOOK_SECONDS = 0.5
FROZEN_SECONDS = 5.0
# From one question until the answer to the next is taken in: two looks, and a busy machine.
LATE_SECONDS = 2 * LOOK_SECONDS + 1.0


def longest_silence(limits: HealthLimits) -> float:
    """For how many seconds an answer of the mount tells that it serves.

    The probe timeout; only where that is too short for the next answer to come, the interval and
    two seconds.
    """
    return max(limits.probe, limits.interval + LATE_SECONDS)


class Monitor:
    """Looks at one mount, twice a second. All times are of the monotonic clock."""

    def __init__(self, mounter: Mounting, limits: HealthLimits, prober: Prober) -> None:
        self._mounter = mounter
        self._limits = limits
        self._prober = prober
        self._asked_at = 0.0
        self._ticks = -1
        self._active_at = self._looked_at = self._ours_at = time.monotonic()
        #: The last answer, replaced as a whole: other threads read it. It was seen to serve just
        #: now.
        self.answered = Answered(serving=True, seconds=0.0, at=time.monotonic())

    def look(self) -> HealthVerdict:
        """What is the matter with the mount. Never waits."""
        ended = self._mounter.ended()
        aborted_by_helper = self._prober.aborted_by_helper
        observation = Observation(ended=ended, aborted_by_helper=aborted_by_helper)
        if not ended and not aborted_by_helper:
            daemon = self._mounter.daemon
            observation = self._ask(None if daemon is None else daemon.identity)
        return judge(observation, self._limits)

    def pause(self) -> float:
        """Until the next look; a question that is about to count as unanswered is not overslept."""
        left = self._limits.probe - self._prober.unanswered
        return min(LOOK_SECONDS, left) if left > 0 else LOOK_SECONDS

    def unresponsive_for(self) -> float:
        """For how many seconds nothing good is known of a mount that is lost."""
        unanswered = self._prober.unanswered
        # Before, the helper may not have had its turn yet, and a whole save would count as torn.
        overdue = unanswered if unanswered >= self._limits.probe else 0.0
        return max(overdue, self._prober.aborted_by_helper, self._unwatched())

    @property
    def unasked(self) -> str:
        """Why nobody can ask the mount; "" if somebody can."""
        return self._prober.problem

    def not_ours(self) -> float:
        """For how many seconds what is mounted there was not seen to be ours."""
        return time.monotonic() - self._ours_at

    def serves_now(self) -> None:
        """It is mounted anew, which it is only once it has answered."""
        self._looked_at = time.monotonic()
        self.answered = replace(self.answered, serving=True, at=self._looked_at)

    def ends_now(self) -> None:
        """It is about to be taken away."""
        self.answered = replace(self.answered, serving=False)

    def renew(self) -> None:
        """Forget what was asked: the mount is another one now."""
        self._prober.renew()

    def close(self) -> None:
        """Look no more."""
        self._prober.close()

    def _unwatched(self) -> float:
        """For how long nobody could look, if that was longer than it should be: 0.0 if it was not.

        A native call that keeps the interpreter's lock keeps the supervisor from running.
        """
        since = time.monotonic() - self._looked_at
        return since if since > LATE_SECONDS else 0.0

    def _ask(self, daemon: ProcessIdentity | None) -> Observation:
        """Look at the table, and at what the prober has heard; ask it anew when it is time."""
        mounted = self._mounter.mounted()
        now = time.monotonic()
        if not mounted:
            # What somebody else's mount answers, or does not, says nothing of ours.
            self._prober.renew()
            self._active_at = self._looked_at = now
            entry = self._mounter.entry()
            return Observation(entry=f"{entry.source} ({entry.fstype})" if entry else "")
        self._ours_at = now
        if now - self._looked_at > max(FROZEN_SECONDS, self._limits.probe):
            # We were stopped ourselves, or the machine was: the silence meanwhile means nothing.
            self._prober.renew()
            self._active_at = now
        self._looked_at = now
        device = self._mounter.device
        if self._prober.unanswered or now - self._asked_at >= self._limits.interval:
            guarded = None
            if daemon is not None and device is not None:
                guarded = Guarded(daemon, device, self._limits)
            self._prober.ask(guarded)
            self._asked_at = now
        else:
            self._prober.attend()
        silent_for = self._prober.unanswered
        self.answered = self._prober.answered or self.answered
        if silent_for < self._limits.probe:
            return Observation(entry="it", ours=True, error=self._prober.error)
        if daemon is None:
            return Observation(entry="it", ours=True, unanswered=silent_for, served=False)
        # Only now, for it costs more than all the rest.
        activity = Activity.of(daemon.pid)
        if activity.ticks != self._ticks:
            self._ticks, self._active_at = activity.ticks, now
        waiting = self._mounter.waiting()
        if waiting == 0:
            # The helper is silent, not the mount. Its next question tells.
            self._prober.renew()
        return Observation(
            entry="it",
            ours=True,
            unanswered=silent_for,
            process_state=activity.state,
            idle=now - self._active_at,
            waiting=waiting,
        )
