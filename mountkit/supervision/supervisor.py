"""Keep a mount alive: see its daemon die or hang, and mount again.

What is the matter is judged in ``health``, what is done about it in ``restart_policy``. Both do no
I/O. The supervisor's thread never touches the mount.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from mountkit.errors import MountkitError
from mountkit.events import MountFailed, MountLost, Observer, Problem, Remounted, guarded
from mountkit.state.record import FAILED, REPAIRING, SERVING
from mountkit.supervision.failing_turns import FailingTurns
from mountkit.supervision.health import Cause, Health, HealthLimits, HealthVerdict, Loss
from mountkit.supervision.monitor import LOOK_SECONDS, Monitor, longest_silence
from mountkit.supervision.prober import Answered, Prober
from mountkit.supervision.record_writer import RecordKeeper
from mountkit.supervision.restart_policy import (
    FLAPPING_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Action,
    decide,
    pause_before,
)
from mountkit.supervision.waker import Waker

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.mounts.mounting import Mounting
    from mountkit.state.record import MountRecord

logger = logging.getLogger("mountkit")

REMEMBERED = 1000
# Between two attempts to move what a mount covers: each may copy much.
BYPASSED_SECONDS = 30.0


class Supervisor:
    """Watches one mount from a thread of its own until it is stopped."""

    def __init__(
        self,
        mounter: Mounting,
        record: MountRecord,
        *,
        attempts: int,
        mount_timeout: float,
        limits: HealthLimits,
        observer: Observer,
        prober: Prober | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._mounter = mounter
        self._clock = clock
        self._turned_at = time.monotonic()
        self._attempts = attempts
        self._mount_timeout = mount_timeout
        self._tell = guarded(observer)
        self._limits = limits
        self._monitor = Monitor(mounter, limits, prober or Prober(record.spec.target))
        self._keeper = RecordKeeper(mounter.directory, record, self._tell)
        self._slow = False
        self._failing = FailingTurns(record.spec.target, attempts, self._tell)
        self._failures = 0
        self._loss: Loss | None = None
        self._bypassed_at: float | None = None
        self._unnamed = self._unmoved = ""
        self._remounted_at = -FLAPPING_SECONDS
        self._waker = Waker()
        self._fenced = ""
        self._halt = threading.Event()
        self.finished = threading.Event()
        self.stopped = False
        self.error: Exception | None = None
        self._closed = self._over = False
        self._ending, self._at_end = threading.Lock(), ExitStack()
        self._thread = threading.Thread(
            target=self._run, name=f"mountkit-supervisor-{record.spec.id}", daemon=True
        )

    @property
    def record(self) -> MountRecord:
        """The record as last written, or as it will be once the disk takes it."""
        return self._keeper.record

    def answered(self) -> Answered:
        """Whether the mount serves by what is known now, and its last answer. For any thread.

        Nothing is asked for this. A daemon that ends is known at once, a mount that is gone from
        the table within half a second. One that is stopped has given its last good answer by then,
        and that counts no longer than ``longest_silence``: the probe timeout by default.
        """
        # Each of these is replaced as a whole.
        last, record = self._monitor.answered, self.record
        serving = (
            last.serving
            and record.state == SERVING
            and not self.finished.is_set()
            and time.monotonic() - last.at < longest_silence(self._limits)
        )
        return replace(last, serving=serving)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def halt(self) -> None:
        """End the watch as soon as may be, without waiting for it. No daemon is started any more.

        A remount under way is given up.
        """
        if not self._closed:
            self._halt.set()
            self._waker.wake()
            self._mounter.starts.shut()

    def fence(self, reason: str) -> None:
        """Another writer has the run: end the daemon at once, for what it uploads counts no more.

        For any thread. The mount is given up.
        """
        self._fenced = reason
        self._mounter.starts.shut()
        daemon = self._mounter.daemon
        if daemon is not None:
            daemon.kill()
        if not self._closed:
            self._waker.wake()

    def stop(self, seconds: float | None = None) -> bool:
        """End the watch; the mount stays as it is. Whether the watch has ended by then.

        Waits for what is done to the mount just now, ``seconds`` at most. Where that takes longer,
        the mount, its cache and its record are still in use: see ``at_end``.
        """
        if self._closed:
            return True
        self.halt()
        if self._thread.is_alive():
            # A start under way is bounded by the mount timeout, and so is this.
            longest = self._mount_timeout + LONGEST_PAUSE_SECONDS
            self._thread.join(longest if seconds is None else seconds)
        if not self._thread.is_alive():
            self._closed = True
            self._waker.close()
        return self._closed

    def at_end(self, work: Callable[[], object]) -> None:
        """Do it once nothing of the mount is in use here any more: now, or in the thread's end."""
        with self._ending:
            if self._thread.is_alive() and not self._over:
                self._at_end.callback(work)
                return
        work()

    def _run(self) -> None:
        try:
            try:
                while not self._halt.is_set() and self._go_on():
                    pass
            finally:
                self._monitor.close()
            self.finished.set()
            # What is read after the end, such as a loss, must get there as well.
            while self.record.state == FAILED and not self._keeper.write_down():
                if self._halt.wait(LOOK_SECONDS):
                    break
        except Exception as error:
            target = self.record.spec.target
            logger.exception("mountkit: the supervisor of %s ended", target)
            self._tell(MountFailed(self._failing.reason(error)))
        finally:
            self.finished.set()
            with self._ending:
                self._over = True
            try:
                self._at_end.close()
            except Exception:
                at = self.record.spec.target
                logger.exception("mountkit: %s could not be let go of: mountkit status %s", at, at)

    def _go_on(self) -> bool:
        """One turn; after one that failed, the next one may do better."""
        try:
            going = self._turn()
        except (OSError, MemoryError) as error:
            return not self._halt.wait(self._failing.lacking(error))
        except Exception as error:  # noqa: BLE001 - said, logged and counted there
            pause = self._failing.unforeseen(error)
            if pause is None:
                self.error = error
                self._fail(self._failing.reason(error))
                return False
            return not self._halt.wait(pause)
        self._failing.over()
        return going

    def _turn(self) -> bool:
        """Look once, and do what is to be done; whether to go on."""
        self._mind_the_clock()
        self._keeper.write_down()
        if self._fenced:
            self._end_fenced()
            return False
        verdict = self._monitor.look()
        if self._fenced:
            # What was seen may be the end that the fence made, and is no loss to be repaired.
            return True
        self._failing.unasked(self._monitor.unasked)
        asked = self._mounter.directory.asked_to_stop()
        action = decide(verdict.health, self._failures, self._attempts, stop_asked=asked)
        if action is Action.STOP:
            self._unmount()
            return False
        if action is Action.GIVE_UP:
            self._fail(f"{self._attempts} attempts failed, the last one: {self.error}")
            return False
        if action is Action.REMOUNT:
            self._remount(verdict)
        elif action is Action.WAIT:
            self._wait(verdict)
        else:
            self._tell_if_slow(verdict)
            if verdict.health is Health.WELL:
                self._serve_again()
            self._quarantine_bypassed()
            self._sleep(self._monitor.pause())
        return True

    def _mind_the_clock(self) -> None:
        """Files of this run stay this run's, also when the clock was set back behind its start."""
        now = time.monotonic()
        earliest = self._clock() - (now - self._turned_at)
        self._turned_at = now
        if earliest < self.record.began:
            named = min(self.record.named, earliest)
            self._keeper.write(replace(self.record, began=earliest, named=named))

    def _unmount(self) -> None:
        """Somebody drained the mount from outside and asked for its end."""
        self._monitor.ends_now()
        try:
            self._mounter.unmount()
        except MountkitError as error:
            self.error = error
            self._fail(error.message)
            return
        self.stopped = True
        # It may have been given up (--discard), and not drained.
        self._mounter.directory.clear(unproven=self._mounter.leaves(self.record))

    def _end_fenced(self) -> None:
        """Whoever waits for the mount gets an error now, and nobody mounts it again."""
        self._monitor.ends_now()
        try:
            self._mounter.kill(hung=True)
        except MountkitError as error:
            self._tell(Problem(error.message))
        reason = f"the lease of the run is lost: {self._fenced}"
        self._keeper.write(self.record.change(FAILED, reason=reason))

    def _tell_if_slow(self, verdict: HealthVerdict) -> None:
        slow = verdict.health is Health.SLOW
        if slow and not self._slow:
            self._tell(Problem(f"The mount at {self.record.spec.target}: {verdict.reason}"))
        self._slow = slow

    def _sleep(self, seconds: float) -> None:
        """Until the daemon dies, somebody wakes us, or the time is up."""
        daemon = self._mounter.daemon
        runs = daemon is not None and daemon.poll() is None
        self._waker.sleep(seconds, daemon.identity.pid if daemon is not None and runs else None)

    def _remount(self, verdict: HealthVerdict) -> None:
        began = time.monotonic()
        if self._failures == 0:
            self._lose(verdict, self._monitor.unresponsive_for())
            self._tell(MountLost(verdict.reason, verdict.cause.value))
        served = began - self._remounted_at
        jitter = random.random()  # noqa: S311 - only spreads load
        pause = pause_before(self._failures, served, jitter)
        if pause and self._halt.wait(pause):
            return
        try:
            # Or torn files would be proven by whoever does not know of the loss.
            self._keeper.must_be_written()
            self._mounter.kill(hung=verdict.cause is Cause.HUNG)
            self._monitor.renew()
            self._mounter.quarantine_bypassed()
            self._mounter.clear_target(None)
            self._mounter.start(self._mount_timeout, self._note_daemon)
        except Exception as error:  # noqa: BLE001 - counted: the next attempt may do better
            if self._halt.is_set():
                # Given up because the mount is about to be taken away.
                return
            if not isinstance(error, (MountkitError, OSError)):
                self._failing.unforeseen(error)
            self._failures += 1
            self.error = error
            return
        self.error = None
        self._failures = 0
        self._remounted_at = time.monotonic()
        self._monitor.serves_now()
        if self._loss is not None:
            self._loss.remounted = True
        self._serve_again()
        self._quarantine_bypassed()

    def _serve_again(self) -> None:
        """Say that the mount is back, once each file that bypassed it meanwhile is recorded."""
        loss, reason = self._loss, self.record.reason
        if loss is None:
            return
        last = self._monitor.answered
        if not loss.remounted and not (last.serving and last.at > loss.at):
            return
        try:
            self._mounter.record_bypassed()
        except (MountkitError, OSError) as error:
            unnamed = (
                "The supervisor cannot record the files that bypassed the mount; the mount stays "
                f"'repairing' until it can: {error}"
            )
            if not self._unnamed:
                self._tell(Problem(unnamed))
            self._unnamed = unnamed
            return
        self._unnamed = ""
        self._loss = None
        self._failures = 0
        self._bypassed_at = time.monotonic()
        if loss.remounted:
            remounts = self.record.remounts + 1
            self._keeper.write(self.record.change(SERVING, remounts=remounts, reason=reason))
            self._tell(Remounted(reason, time.monotonic() - loss.at, loss.cause.value))
            return
        lost = (*self.record.lost, self._clock())[-REMEMBERED:]
        self._keeper.write(self.record.change(SERVING, reason=reason, lost=lost))
        self._tell(Problem(f"The mount at {self.record.spec.target} serves again by itself"))

    def _quarantine_bypassed(self) -> None:
        """Move what the mount covers to where it can be found; it is known by name already."""
        now = time.monotonic()
        if self._bypassed_at is None or now < self._bypassed_at:
            return
        try:
            self._mounter.quarantine_bypassed()
        except (MountkitError, OSError) as error:
            unmoved = f"Files that bypassed the mount stay below it; they cannot be moved: {error}"
            if not self._unmoved:
                self._tell(Problem(unmoved))
            self._unmoved, self._bypassed_at = unmoved, now + BYPASSED_SECONDS
            return
        self._unmoved, self._bypassed_at = "", None

    def _lose(self, verdict: HealthVerdict, silent: float, *, covered: str = "") -> None:
        """Write down that it is lost, and was last known to be well ``silent`` seconds ago."""
        # A save is torn if it was under way then, or is now.
        now = self._clock()
        lost = (*self.record.lost, now - silent, now)[-REMEMBERED:]
        fields = {"reason": verdict.reason, "lost": lost, "covered": covered or self.record.covered}
        self._keeper.write(self.record.change(REPAIRING, **fields))
        self._loss = Loss(time.monotonic(), verdict.cause)

    def _wait(self, verdict: HealthVerdict) -> None:
        """Leave everything as it is until somebody else's mount is gone, and say so once."""
        if self._loss is None:
            self._lose(verdict, self._monitor.not_ours(), covered=verdict.reason)
            target = self.record.spec.target
            self._tell(Problem(f"The mount at {target} waits: {verdict.reason}"))
        self._sleep(LOOK_SECONDS)

    def _note_daemon(self) -> None:
        daemon = self._mounter.daemon
        identity = daemon.identity if daemon else None
        self._keeper.write(replace(self.record, daemon=identity, device=self._mounter.device))
        # Nobody may find the mount by a device that another one had.
        self._keeper.must_be_written()

    def _fail(self, reason: str) -> None:
        self._keeper.write(self.record.change(FAILED, reason=reason))
        self._tell(MountFailed(reason))
