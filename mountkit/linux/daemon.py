"""Start a daemon, and end it."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from mountkit.errors import MountUnavailableError
from mountkit.linux.process import KILL_GRACE_SECONDS, ProcessIdentity, describe_exit, tail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def in_memory(text: str) -> int:
    """A descriptor to read that text from; whoever has it may open it anew as ``/dev/fd/N``."""
    descriptor = os.memfd_create("stdin")
    with os.fdopen(descriptor, "wb", closefd=False) as stream:
        stream.write(text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


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
    def start(
        cls, argv: Sequence[str], env: Mapping[str, str], log: Path, stdin: str = ""
    ) -> Daemon:
        """Start ``argv`` with exactly ``env``; its output is appended to ``log`` (mode 0600).

        What it reads of its standard input is kept in memory, and not on a disk.

        Raises MountUnavailableError if the program cannot be started.
        """
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        given = in_memory(stdin) if stdin else None
        try:
            process = subprocess.Popen(
                list(argv),
                env=dict(env),
                stdin=subprocess.DEVNULL if given is None else given,
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
            if given is not None:
                os.close(given)
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


class InheritedDaemon:
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
