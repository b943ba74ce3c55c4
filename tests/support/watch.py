"""A supervisor of a fake mount: a real process for each, and whatever is to be seen of it."""

from __future__ import annotations

import queue
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

from mountkit.linux.daemon import Daemon
from mountkit.linux.process import ProcessIdentity
from mountkit.mounts.start_gate import StartGate
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state import record as state
from mountkit.state.mount_directory import StateDirectory
from mountkit.state.record import MountRecord
from mountkit.supervision.health import HealthLimits
from mountkit.supervision.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mountkit.errors import MountUnavailableError
    from mountkit.linux.mount_table import MountEntry
    from mountkit.supervision.prober import Answered, Guarded

LIMIT = 30.0
LIMITS = HealthLimits(interval=0.01, probe=0.05, hang=0.2)
# With these no silence of a busy machine counts.
PATIENT = HealthLimits(interval=0.01, probe=1000.0, hang=2000.0)

SPEC = MountSpec(Source("s3", "b", "p"), "/mnt", "fake", StoreOptions(), "/cache")


class FakeMounter:
    """Starts a real process for each mount, and says that what runs is mounted."""

    def __init__(self, folder: Path) -> None:
        (folder / "state").mkdir()
        self.directory = StateDirectory(folder / "state")
        self.backend = SimpleNamespace(name="fake")
        self.starts = StartGate(SPEC)
        self.daemon: Daemon | None = None
        self.device = 7
        self.table = True
        self.stranger: MountEntry | None = None
        self.requests: int | None = None
        self.calls: list[str] = []
        self.start_errors: list[Exception] = []
        self.stray_errors: list[OSError | None] = []
        self.name_errors: list[OSError] = []
        self.unmount_error: MountUnavailableError | None = None
        self.clearing: Callable[[], None] = lambda: None
        self.starting: Callable[[], None] = lambda: None
        self.self_check: Callable[[], None] = lambda: None
        self.unmounting: Callable[[], None] = lambda: None
        self.left = False

    def busy(self) -> None:
        """A daemon that uses its processor."""
        self.daemon.stop()
        self.daemon = Daemon.start(["/bin/sh", "-c", "while :; do :; done"], {}, self.directory.log)

    def ended(self) -> str:
        ended = self.daemon.ended()
        return f"fake ended: {ended}" if ended else ""

    def mounted(self) -> bool:
        return self.table

    def entry(self) -> MountEntry | None:
        return self.stranger

    def waiting(self) -> int | None:
        return self.requests

    def leaves(self, record: MountRecord) -> bool:
        return self.left

    def kill(self, *, hung: bool = False) -> None:
        self.calls.append("kill hung" if hung else "kill")
        self.daemon.stop()

    def quarantine_bypassed(self) -> None:
        self.calls.append("strays")
        error = self.stray_errors.pop(0) if self.stray_errors else None
        if error is not None:
            raise error

    def record_bypassed(self) -> None:
        self.calls.append("name")
        if self.name_errors:
            raise self.name_errors.pop(0)

    def clear_target(self, leftover: ProcessIdentity | None) -> bool:
        self.calls.append("clear")
        self.clearing()
        return True

    def start(self, timeout: float, seen: Callable[[], None] = lambda: None) -> None:
        self.calls.append("start")
        if self.start_errors:
            raise self.start_errors.pop(0)
        self.starting()
        with self.starts.making():
            self.daemon = Daemon.start(["/bin/sleep", "600"], {}, self.directory.log)
        self.table = True
        try:
            seen()
            self.self_check()
        except BaseException:
            self.daemon.stop()
            raise

    def unmount(self) -> None:
        self.calls.append("unmount")
        self.unmounting()
        if self.unmount_error:
            raise self.unmount_error
        self.daemon.stop()
        self.table = False


class SilentProber:
    """Hears nothing for an hour, while it is told to."""

    def __init__(self) -> None:
        self.silent = False
        self.error = 0
        self.answered: Answered | None = None
        self.aborted_by_helper = 0.0
        self.problem = ""
        self.guarded: Guarded | None = None
        self.renewed = 0

    @property
    def unanswered(self) -> float:
        return 0.5 if self.silent else 0.0

    def ask(self, guarded: Guarded | None = None) -> None:
        """It says what it is told to."""
        self.guarded = guarded

    def attend(self) -> None:
        """It is there anyway."""

    def renew(self) -> None:
        self.silent, self.error, self.answered, self.aborted_by_helper = False, 0, None, 0.0
        self.guarded = None
        self.renewed += 1

    def close(self) -> None:
        """There is no helper."""


class Watch:
    """A supervisor of a fake mount, and what it tells."""

    def __init__(self, folder: Path) -> None:
        self.mounter = FakeMounter(folder)
        self.mounter.start(1.0)
        self.mounter.calls.clear()
        daemon = self.mounter.daemon.identity
        self.record = MountRecord(SPEC, state.SERVING, state.now(), ProcessIdentity.mine(), daemon)
        self.mounter.directory.write(self.record)
        self.events: queue.SimpleQueue = queue.SimpleQueue()
        self.supervisor: Supervisor | None = None

    def begin(
        self,
        attempts: int = 3,
        failures: int = 0,
        prober=None,
        observer=None,
        clock=time.time,
        limits=LIMITS,
    ) -> Supervisor:
        self.supervisor = Supervisor(
            self.mounter,
            self.record,
            attempts=attempts,
            mount_timeout=LIMIT,
            limits=limits,
            observer=observer or self.events.put,
            prober=prober,
            clock=clock,
        )
        self.supervisor._failures = failures
        self.supervisor.start()
        return self.supervisor

    def told(self):
        return self.events.get(timeout=LIMIT)

    def written(self) -> MountRecord:
        return self.mounter.directory.read()

    def stop(self) -> None:
        supervisor, self.supervisor = self.supervisor, None
        if supervisor is not None:
            supervisor.stop()

    def end(self) -> None:
        self.stop()
        self.mounter.daemon.stop()


def wait_until(condition) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
