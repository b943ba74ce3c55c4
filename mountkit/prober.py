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

# A line with an errno and the seconds it took, for every line it is given. statvfs is never
# answered from the kernel's caches, and costs the daemon no request to the store. The time is taken
# here, because the supervisor looks for an answer only now and then.
LOOP = """
import os, sys, time
for line in sys.stdin:
    error, began = 0, time.monotonic()
    try:
        os.statvfs(sys.argv[1])
    except OSError as problem:
        error = problem.errno or 5
    print(error, time.monotonic() - began, flush=True)
"""
END_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Answered:
    """Whether a mount serves, by its last answer.

    It took ``seconds``, to a question that was asked ``at`` that time of the monotonic clock.
    """

    serving: bool
    seconds: float
    at: float


class Prober:
    """Asks the mount at ``target``. Not for several threads."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._helper: subprocess.Popen[bytes] | None = None
        self._asked: float | None = None
        #: The errno of the last answer, 0 for a good one.
        self.error = 0
        #: The last answer; None while there is none.
        self.answered: Answered | None = None

    @property
    def unanswered(self) -> float:
        """For how many seconds a question waits for its answer by now; 0.0 if none does."""
        self._take()
        return self._waited()

    def ask(self) -> None:
        """Take in an answer that is there, and ask anew if none is outstanding. Never waits."""
        self._take()
        if self._asked is not None:
            return
        helper = self._helper
        if helper is None or helper.poll() is not None:
            helper = self._start()
        try:
            os.write(self._questions(helper), b"\n")
        except OSError:
            # It is gone; the next look starts another.
            self.renew()
            return
        self._asked = time.monotonic()

    @property
    def descriptor(self) -> int | None:
        """Readable when an answer is there; None while nothing is asked."""
        if self._helper is None or self._asked is None or self._helper.stdout is None:
            return None
        return self._helper.stdout.fileno()

    def renew(self) -> None:
        """Forget what was asked: the mount is another one now."""
        self.close()
        self.error, self.answered = 0, None

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

    def _waited(self) -> float:
        return 0.0 if self._asked is None else time.monotonic() - self._asked

    @staticmethod
    def _questions(helper: subprocess.Popen[bytes]) -> int:
        return -1 if helper.stdin is None else helper.stdin.fileno()

    def _start(self) -> subprocess.Popen[bytes]:
        self._helper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LOOP, self._target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A signal to the group of a terminal must not end it.
            start_new_session=True,
            cwd="/",
        )
        return self._helper

    def _take(self) -> None:
        descriptor = self.descriptor
        if self._asked is None or descriptor is None:
            return
        # Not select, which takes no descriptor over 1023: a training may have that many.
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(0):
            return
        answer = os.read(descriptor, 64).split()
        if not answer:
            self.renew()
            return
        self.error = int(answer[0])
        self.answered = Answered(self.error == 0, float(answer[1]), self._asked)
        self._asked = None
