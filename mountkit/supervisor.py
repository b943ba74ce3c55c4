"""Keep a mount alive: see its daemon die, and mount again over the same cache.

``decide`` is the whole policy and does no I/O. The supervisor's thread never touches the mount.
"""

from __future__ import annotations

import os
import random
import select
import threading
import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from mountkit import state
from mountkit.errors import MountkitError
from mountkit.events import MountGivenUp, MountLost, Observer, Remounted
from mountkit.process import describe_exit

if TYPE_CHECKING:
    from mountkit.mounter import Mounter
    from mountkit.state import MountRecord

TICK_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
FLAPPING_SECONDS = 5.0
REMEMBERED = 1000


class Action(Enum):
    """What the supervisor does next."""

    STAY = "stay"
    REMOUNT = "remount"
    GIVE_UP = "give up"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Sight:
    """What the supervisor sees. ``lost`` says why the mount is not there, or is empty."""

    lost: str
    stop_asked: bool
    failures: int


def decide(sight: Sight, attempts: int) -> Action:
    """What to do, after ``sight.failures`` failed remounts in a row of ``attempts`` allowed."""
    if sight.stop_asked:
        return Action.STOP
    if not sight.lost:
        return Action.STAY
    return Action.REMOUNT if sight.failures < attempts else Action.GIVE_UP


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


class Supervisor:
    """Watches one mount from a thread of its own until it is stopped."""

    def __init__(
        self,
        mounter: Mounter,
        record: MountRecord,
        *,
        attempts: int,
        mount_timeout: float,
        observer: Observer,
    ) -> None:
        self._mounter = mounter
        self._record = record
        self._attempts = attempts
        self._mount_timeout = mount_timeout
        self._observer = observer
        self._failures = 0
        self._remounted_at = -FLAPPING_SECONDS
        self._wake_reader, self._wake_writer = os.pipe()
        self._halt = threading.Event()
        self.finished = threading.Event()
        self.stopped = False
        self.error: Exception | None = None
        self._closed = False
        self._thread = threading.Thread(
            target=self._run, name=f"mountkit-supervisor-{record.spec.id}", daemon=True
        )

    @property
    def record(self) -> MountRecord:
        """The record as last written."""
        return self._record

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the watch; the mount stays as it is. Waits for a remount under way."""
        if self._closed:
            return
        self._halt.set()
        os.write(self._wake_writer, b"x")
        if self._thread.is_alive():
            # A start under way is bounded by the mount timeout, and so is this.
            self._thread.join(self._mount_timeout + LONGEST_PAUSE_SECONDS)
        if not self._thread.is_alive():
            self._closed = True
            os.close(self._wake_reader)
            os.close(self._wake_writer)

    def _run(self) -> None:
        try:
            while not self._halt.is_set():
                action = decide(self._look(), self._attempts)
                if action is Action.STOP:
                    self._unmount()
                    break
                if action is Action.GIVE_UP:
                    self._give_up()
                    break
                if action is Action.REMOUNT:
                    self._remount()
                else:
                    self._sleep(TICK_SECONDS)
        finally:
            self.finished.set()

    def _unmount(self) -> None:
        """Somebody drained the mount from outside and asked for its end."""
        try:
            self._mounter.unmount()
        except MountkitError as error:
            self.error = error
            self._write(self._record.change(state.FAILED, reason=error.message))
            self._observer(MountGivenUp(error.message))
            return
        self.stopped = True
        self._mounter.directory.clear()

    def _look(self) -> Sight:
        daemon = self._mounter.daemon
        status = daemon.poll() if daemon is not None else 0
        lost = ""
        if status is not None:
            lost = f"{self._mounter.backend.name} ended with {describe_exit(status)}"
        elif not self._mounter.mounted():
            lost = "somebody unmounted it"
        return Sight(lost, self._mounter.directory.asked_to_stop(), self._failures)

    def _sleep(self, seconds: float) -> None:
        """Until the daemon dies, somebody wakes us, or the time is up."""
        watched = [self._wake_reader]
        daemon = self._mounter.daemon
        descriptor = None
        if daemon is not None and daemon.poll() is None:
            try:
                descriptor = os.pidfd_open(daemon.identity.pid)
            except ProcessLookupError:
                return
            watched.append(descriptor)
        try:
            select.select(watched, [], [], seconds)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _remount(self) -> None:
        began = time.monotonic()
        reason = self._look().lost or self._record.reason
        if self._failures == 0:
            lost = (*self._record.lost, time.time())[-REMEMBERED:]
            self._write(self._record.change(state.REPAIRING, reason=reason, lost=lost))
            self._observer(MountLost(reason))
        served = began - self._remounted_at
        jitter = random.random()  # noqa: S311 - only spreads load
        pause = pause_before(self._failures, served, jitter)
        if pause and self._halt.wait(pause):
            return
        try:
            self._mounter.kill()
            self._mounter.keep_strays()
            self._mounter.clear_target(None)
            self._mounter.start(self._mount_timeout)
            self._mounter.keep_strays()
        except (MountkitError, OSError) as error:
            self._failures += 1
            self.error = error
            return
        self.error = None
        self._failures = 0
        self._remounted_at = time.monotonic()
        daemon = self._mounter.daemon
        self._write(
            self._record.change(
                state.SERVING,
                daemon=daemon.identity if daemon else None,
                device=self._mounter.device,
                remounts=self._record.remounts + 1,
                reason=self._record.reason,
            )
        )
        self._observer(Remounted(self._record.reason, time.monotonic() - began))

    def _give_up(self) -> None:
        reason = f"{self._attempts} attempts failed, the last one: {self.error}"
        self._write(self._record.change(state.FAILED, reason=reason))
        self._observer(MountGivenUp(reason))

    def _write(self, record: MountRecord) -> None:
        self._record = record
        self._mounter.directory.write(record)
