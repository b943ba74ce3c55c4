"""Processes: recognised again later without trusting a PID alone, and what they do."""

from __future__ import annotations

import os
import select
import signal
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import psutil

from mountkit.errors import MountUnavailableError

TAIL_BYTES = 8192
KILL_GRACE_SECONDS = 5.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@lru_cache(maxsize=1)
def boot_id() -> str:
    """What tells this start of the machine from every other one; "" where the kernel hides it."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, told from a stranger that got the same PID later (F38).

    ``started`` is in clock ticks since boot, which no step of the wall clock moves. ``boot`` tells
    which boot that was; it is empty where the kernel hides it, and in records of earlier versions,
    of which only the rest is compared.
    """

    pid: int
    started: int
    executable: str
    boot: str = ""

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The identity of a running process, or None if there is none with this PID."""
        place = Path("/proc") / str(pid)
        try:
            fields = stat_of(place)
            if fields[0] == "Z":
                return None
            # A program that was upgraded under it is the same process all the same.
            executable = str((place / "exe").readlink()).removesuffix(" (deleted)")
            return cls(pid, int(fields[19]), executable, boot_id())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None

    @classmethod
    def mine(cls) -> ProcessIdentity:
        """The identity of the calling process."""
        mine = cls.of(os.getpid())
        if mine is None:
            raise MountUnavailableError(
                "/proc does not show this process.", hint="Mount it: mount -t proc proc /proc"
            )
        return mine

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return self.of_this_boot() and ProcessIdentity.of(self.pid) == replace(self, boot=boot_id())

    def of_this_boot(self) -> bool:
        """Whether the machine was not restarted since, as far as is known."""
        return not self.boot or not boot_id() or self.boot == boot_id()

    def send(self, number: signal.Signals) -> bool:
        """Signal this very process. Returns False if it no longer runs."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The descriptor pins the process, so that a PID re-used in between is not signalled.
            if not self.alive():
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the end of this process. True if it ended."""
        if not self.alive():
            return True
        try:
            psutil.Process(self.pid).wait(timeout)
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            return not self.alive()
        return True

    def stop(self, grace: float = KILL_GRACE_SECONDS) -> bool:
        """SIGTERM, then SIGKILL after ``grace`` seconds. True if it is gone in the end."""
        if not self.send(signal.SIGTERM):
            return True
        if self.wait(grace):
            return True
        self.send(signal.SIGKILL)
        return self.wait(grace)


@dataclass(frozen=True, slots=True)
class Activity:
    """What a process does, by proc(5): its state, and its processor time in clock ticks."""

    state: str
    ticks: int

    @classmethod
    def of(cls, pid: int) -> Activity:
        """Of a running process; state X if there is none."""
        try:
            fields = stat_of(Path("/proc") / str(pid))
        except (FileNotFoundError, ProcessLookupError):
            return cls("X", 0)
        return cls(fields[0], int(fields[11]) + int(fields[12]))


def wait_for_end(pid: int | None, wake: int, seconds: float) -> None:
    """Until that process ends, the descriptor ``wake`` can be read, or the time is up."""
    # Not select, which takes no descriptor over 1023: a training may have that many.
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    with ExitStack() as opened:
        if pid is not None:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                return
            opened.callback(os.close, descriptor)
            poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)


def stat_of(place: Path) -> list[str]:
    """The fields of proc(5), from the state on, of a process or thread that has its files there."""
    # The name, in brackets, may itself hold blanks and brackets.
    return (place / "stat").read_text(errors="replace").rpartition(")")[2].split()


def tail(log: Path, limit: int = TAIL_BYTES) -> str:
    """The last ``limit`` bytes of a log file as text; empty if there is none."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - limit))
            return stream.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def describe_exit(status: int) -> str:
    """``exit status 1`` or ``killed by SIGKILL``, from what ``Popen.poll`` returns."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
