"""Start, watch and stop a daemon, and recognise it again later without trusting its PID alone."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from mountkit.errors import MountUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TAIL_BYTES = 8192
KILL_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, told from a stranger that got the same PID later (F38).

    ``started`` is in clock ticks since boot, which no step of the wall clock moves.
    """

    pid: int
    started: int
    executable: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The identity of a running process, or None if there is none with this PID."""
        place = Path("/proc") / str(pid)
        try:
            # The name, in brackets, may itself hold blanks and brackets.
            fields = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] == "Z":
                return None
            # A program that was upgraded under it is the same process all the same.
            executable = str((place / "exe").readlink()).removesuffix(" (deleted)")
            return cls(pid, int(fields[19]), executable)
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
        return ProcessIdentity.of(self.pid) == self

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


class Daemon:
    """A child process in a session of its own, with its output kept in a private log file.

    The output goes to a file and not to a pipe, so that the daemon outlives whoever started it.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.log = log
        identity = ProcessIdentity.of(process.pid)
        # A child that is already gone still needs a name in the record; nobody is signalled by it.
        self.identity = identity or ProcessIdentity(process.pid, 0, "")

    @classmethod
    def start(cls, argv: Sequence[str], env: Mapping[str, str], log: Path) -> Daemon:
        """Start ``argv`` with exactly ``env``; its output is appended to ``log`` (mode 0600).

        Raises
        ------
        MountUnavailableError
            If the program cannot be started.
        """
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(
                list(argv),
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise MountUnavailableError(
                f"{argv[0]} cannot be started: {error.strerror}.",
                hint=f"Check that it is there and may be run: ls -l {argv[0]}",
            ) from error
        finally:
            os.close(descriptor)
        return cls(process, log)

    def poll(self) -> int | None:
        """The exit status if the daemon has ended (reaping it), or None."""
        return self._process.poll()

    def wait(self, timeout: float) -> int | None:
        """Wait at most ``timeout`` seconds; the exit status, or None if it still runs."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def ended(self) -> str:
        """How it ended, in words; "" while it runs."""
        status = self.poll()
        return "" if status is None else describe_exit(status)

    def stop(self, grace: float = KILL_GRACE_SECONDS) -> None:
        """SIGTERM, then SIGKILL after ``grace`` seconds; reaps the child."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        if self.wait(grace) is None:
            self.kill(grace)

    def kill(self, grace: float = KILL_GRACE_SECONDS) -> None:
        """SIGKILL, which a stopped process gets too; reaps the child."""
        if self._process.poll() is None:
            self._process.kill()
            self.wait(grace)

    def tail(self) -> str:
        """The end of what the daemon printed, at most 8 KiB."""
        return tail(self.log)


class AdoptedDaemon:
    """A daemon that another process started and left: the same to its new supervisor (F37).

    It is nobody's child here, so how it ends is not known.
    """

    def __init__(self, identity: ProcessIdentity, log: Path) -> None:
        self.identity = identity
        self.log = log

    def poll(self) -> int | None:
        """0 if the daemon has ended, or None."""
        return None if self.identity.alive() else 0

    def wait(self, timeout: float) -> int | None:
        """Wait at most ``timeout`` seconds; 0, or None if it still runs."""
        return 0 if self.identity.wait(timeout) else None

    def ended(self) -> str:
        """How it ended, in words; "" while it runs."""
        return "" if self.identity.alive() else "an unknown status"

    def stop(self, grace: float = KILL_GRACE_SECONDS) -> None:
        """SIGTERM, then SIGKILL after ``grace`` seconds."""
        self.identity.stop(grace)

    def kill(self, grace: float = KILL_GRACE_SECONDS) -> None:
        """SIGKILL, which a stopped process gets too."""
        if self.identity.send(signal.SIGKILL):
            self.identity.wait(grace)

    def tail(self) -> str:
        """The end of what the daemon printed, at most 8 KiB."""
        return tail(self.log)


@dataclass(frozen=True, slots=True)
class Activity:
    """What a process does, by proc(5): its state, and its processor time in clock ticks."""

    state: str
    ticks: int

    @classmethod
    def of(cls, pid: int) -> Activity:
        """Of a running process; state X if there is none."""
        try:
            stat = (Path("/proc") / str(pid) / "stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return cls("X", 0)
        fields = stat.rpartition(")")[2].split()
        return cls(fields[0], int(fields[11]) + int(fields[12]))


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
