"""A helper that asks a mount again and again, for the supervisor, which must never touch one.

It is a process of its own, so that it can be given up when an answer never comes, and it stays, so
that asking costs next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.linux.process import describe_exit
from mountkit.supervision import probe_child

if TYPE_CHECKING:
    from mountkit.linux.process import ProcessIdentity
    from mountkit.supervision.health import HealthLimits

# Its text, read once: the helpers of a long run go with it when another version is installed.
LOOP = Path(probe_child.__file__).read_text()
END_SECONDS = 1.0
# Helpers in a row that ended without an answer: the next one will, too.
ENDED_HELPERS = 3


@dataclass(frozen=True, slots=True)
class Answered:
    """Whether a mount serves, by its last answer.

    It took ``seconds``, to a question that was asked ``at`` that time of the monotonic clock.
    """

    serving: bool
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class Guarded:
    """The daemon that a helper ends if it hangs and the supervisor cannot, and its device."""

    daemon: ProcessIdentity
    device: int
    limits: HealthLimits


class Prober:
    """Asks the mount at ``target``. Not for several threads."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._helper: subprocess.Popen[bytes] | None = None
        self._asked: float | None = None
        self._guarded: Guarded | None = None
        self._aborted: float | None = None
        self._ended, self._how = 0, ""
        #: The errno of the last answer, 0 for a good one.
        self.error = 0
        #: The last answer; None while there is none.
        self.answered: Answered | None = None

    @property
    def unanswered(self) -> float:
        """For how many seconds a question waits for its answer by now; 0.0 if none does."""
        self._take()
        return self._waited()

    @property
    def aborted_by_helper(self) -> float:
        """For how long a daemon is silent that the helper had to end; 0.0 if it did not."""
        self._take()
        return 0.0 if self._aborted is None else time.monotonic() - self._aborted

    @property
    def problem(self) -> str:
        """Why nobody can ask the mount, so that a hang would not be seen; "" if somebody can."""
        if self._ended < ENDED_HELPERS:
            return ""
        return f"the helper that asks it ends each time, the last one with {self._how}"

    def ask(self, guarded: Guarded | None = None) -> None:
        """Take in an answer that is there, and ask anew if none is outstanding. Never waits.

        ``guarded`` is the daemon of the mount, once it is known.
        """
        self._take()
        if guarded != self._guarded:
            self.renew()
            self._guarded = guarded
        if self._asked is not None:
            self.attend()
            return
        helper = self._helper
        if helper is not None and helper.poll() is not None:
            self._note_end(helper)
            helper = None
        if helper is None:
            helper = self._start()
        try:
            os.write(self._questions(helper), probe_child.ASK)
        except OSError:
            # It is gone; the next look starts another.
            self._note_end(helper)
            self.renew()
            return
        self._asked = time.monotonic()

    def attend(self) -> None:
        """Say that the supervisor takes its turns, for as long as which the helper only asks."""
        if self._helper is not None:
            # One that is gone, or stopped so long that nothing more goes in, does nothing either.
            with contextlib.suppress(OSError):
                os.write(self._questions(self._helper), probe_child.TURN)

    def renew(self) -> None:
        """Forget what was asked: the mount is another one now."""
        self.close()
        self.error, self.answered, self._aborted = 0, None, None

    def close(self) -> None:
        """End the helper. One that hangs in the kernel ends when the mount does."""
        helper, self._helper, self._asked = self._helper, None, None
        if helper is None:
            return
        helper.kill()
        for stream in (helper.stdin, helper.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            helper.wait(END_SECONDS)

    def _note_end(self, helper: subprocess.Popen[bytes]) -> None:
        """It ended by itself: nobody was told to end it."""
        self._ended += 1
        try:
            self._how = describe_exit(helper.wait(END_SECONDS))
        except subprocess.TimeoutExpired:
            self._how = "an unknown status"

    def _waited(self) -> float:
        return 0.0 if self._asked is None else time.monotonic() - self._asked

    @staticmethod
    def _questions(helper: subprocess.Popen[bytes]) -> int:
        return -1 if helper.stdin is None else helper.stdin.fileno()

    def _start(self) -> subprocess.Popen[bytes]:
        words = [self._target, str(os.getpid())]
        if self._guarded is not None:
            daemon, limits = self._guarded.daemon, self._guarded.limits
            numbers = (daemon.pid, daemon.started, self._guarded.device, limits.probe, limits.hang)
            words += map(str, numbers)
        self._helper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LOOP, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A signal to the group of a terminal must not end it.
            start_new_session=True,
            cwd="/",
        )
        os.set_blocking(self._questions(self._helper), False)
        return self._helper

    def _take(self) -> None:
        if self._helper is None or self._helper.stdout is None:
            return
        descriptor = self._helper.stdout.fileno()
        # Not select, which takes no descriptor over 1023: a training may have that many.
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(0):
            return
        told = os.read(descriptor, 4096)
        if not told:
            self._note_end(self._helper)
            self.renew()
            return
        # A line is written in one piece, and is too short for a pipe to part it.
        for line in told.decode().splitlines():
            word, seconds = line.split()
            if word == probe_child.ABORTED:
                self._aborted = float(seconds)
            elif self._asked is not None:
                self._ended = 0
                self.error = int(word)
                self.answered = Answered(self.error == 0, float(seconds), self._asked)
                self._asked = None
