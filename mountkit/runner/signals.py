"""Signals while a command runs and after it: what is passed on, and how much time is left."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from mountkit.errors import UsageError
from mountkit.linux.signals import ENDING, handled, leave
from mountkit.mounts import working_directory
from mountkit.timing import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Self


FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
HANDLED = (*FORWARDED, signal.SIGINT)
LOOK_SECONDS = 0.5
KILL_SECONDS = 2.0
# Of the grace: what the drain gets at least, and what the unmount takes after it.
DRAIN_SHARE = 0.3
UNMOUNT_SHARE = 0.1
COMMAND_SHARE = 1 - DRAIN_SHARE - UNMOUNT_SHARE


class Phase(Enum):
    """What a signal does now."""

    OPENING = "it ends everything"
    STARTING = "it waits for the command"
    RUNNING = "it goes to the command"
    ENDED = "it is answered"
    DRAINING = "it is answered, and a second interrupt ends the drain"
    CLOSING = "it is answered: the mount is being taken away"


class Signals:
    """Signals while a command runs go to the command; after it they do not cut the drain short.

    Before the command runs, a signal ends everything, mount and all. After it, a second interrupt
    ends the drain; what was not uploaded stays in the cache. No signal cuts the unmount short: a
    daemon that nobody knows of would go on with the cache.

    With a ``grace``, the seconds between the platform's signal and its SIGKILL, the first signal
    that asks for the end sets the ``deadline``. A command that does not end in time to leave some
    of it for the drain is ended.

    ``say`` tells people; ``at_once`` does so from within a signal's handler.
    """

    def __init__(
        self,
        grace: float | None = None,
        say: Callable[[str], None] = lambda _: None,
        at_once: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.deadline = Deadline()
        self._grace = grace
        self._say = say
        self._at_once = at_once
        self._child: subprocess.Popen[bytes] | None = None
        self._phase = Phase.OPENING
        self._early: list[int] = []
        self._interrupts = 0
        self._cut = False
        self._asked: set[int] = set()
        self._handled = handled(HANDLED, self._receive)
        # A terminal sends its interrupt to the command as well; twice would be once too often.
        self._terminal = sys.stdin is not None and sys.stdin.isatty()

    def __enter__(self) -> Self:
        self._handled.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handled.__exit__(None, None, None)

    def execute(
        self, command: Sequence[str], env: Mapping[str, str], inside: str | None = None
    ) -> int:
        """Run a command to its end; its exit code, or 128+N if signal N ended it.

        ``inside`` is its working directory, where that is not ours.

        Raises UsageError if it cannot be started; MountUnavailableError if it cannot be started
        there.
        """
        self._phase = Phase.STARTING
        try:
            child = subprocess.Popen(list(command), env=dict(env), cwd=inside)
        except OSError as error:
            self.only_answer()
            if inside is not None and error.filename == inside:
                raise working_directory.not_entered(inside, error) from error
            raise UsageError(
                f"{command[0]} cannot be run: {error.strerror}.",
                hint="Check the command after the two dashes.",
            ) from error
        self._child, self._phase = child, Phase.RUNNING
        for number in self._early:
            child.send_signal(number)
        status = self._wait(child)
        self._phase = Phase.ENDED
        return status if status >= 0 else 128 - status

    def end(self) -> None:
        """End the command, if it runs: another writer has what it saves to. From any thread."""
        child = self._child
        if child is None or self._phase is not Phase.RUNNING:
            return
        self._asked |= {signal.SIGTERM, signal.SIGKILL}
        child.terminate()
        killed = threading.Timer(KILL_SECONDS, child.kill)
        killed.daemon = True
        killed.start()

    def asked_for(self, code: int) -> bool:
        """Whether a command that ended with ``code`` did so because it was told to.

        By a signal that came while it ran, or by us, when its share of the grace was over.
        """
        return code - 128 in self._asked

    @property
    def stopped(self) -> bool:
        """Whether a signal that asks for the end came before the command had ended."""
        return not self._asked.isdisjoint(ENDING)

    @contextmanager
    def draining(self) -> Iterator[None]:
        """While this lasts, a second interrupt raises KeyboardInterrupt; once it is over, none."""
        self._phase = Phase.DRAINING
        try:
            if self._interrupts > 1:
                self._cut_short()
            yield
        except Exception as error:
            if not self._cut:
                raise
            # Until Python 3.12, whatever breaks off the making of a class becomes a RuntimeError.
            raise KeyboardInterrupt from error
        finally:
            self.only_answer()

    def only_answer(self) -> None:
        """From now on, nothing that a signal says is done: the mount is being taken away."""
        self._phase = Phase.CLOSING

    def _wait(self, child: subprocess.Popen[bytes]) -> int:
        """The status of the command; with a grace, ended by us when its share of it is over.

        Not in one wait for as long as it takes: a signal that comes just before that is entered
        would be passed on when it is over.
        """
        try:
            descriptor = os.pidfd_open(child.pid)
        except ProcessLookupError:
            # Passing a signal on may already have noticed its end.
            return child.wait()
        try:
            while not select.select([descriptor], [], [], LOOK_SECONDS)[0]:
                left = self.deadline.left
                if self._grace and left is not None and left <= self._grace * DRAIN_SHARE:
                    self._say(
                        f"the command did not end within {self._grace * COMMAND_SHARE:.0f} s "
                        "of the signal; it is ended now, so that there is time for the drain"
                    )
                    return self._kill(child)
        finally:
            os.close(descriptor)
        return child.wait()

    def _kill(self, child: subprocess.Popen[bytes]) -> int:
        """End the command. One that waits in the kernel for the mount ends only with that."""
        self._asked.add(signal.SIGKILL)
        child.kill()
        try:
            return child.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self._say(
                f"it does not end within {KILL_SECONDS:.0f} s, and is not waited for; what it was "
                "writing is not in the store"
            )
            return -signal.SIGKILL

    def _receive(self, number: int, frame: object) -> None:
        if self._grace is not None and number in ENDING:
            self.deadline.set(self._grace * (1 - UNMOUNT_SHARE))
        match self._phase:
            case Phase.OPENING:
                # Once: what was begun has to be taken back before this process ends.
                self.only_answer()
                leave(number, frame)
            case Phase.STARTING:
                self._asked.add(number)
                self._early.append(number)
            case Phase.RUNNING:
                self._asked.add(number)
                if self._child is not None and (number != signal.SIGINT or not self._terminal):
                    self._child.send_signal(number)
            case Phase.ENDED | Phase.DRAINING:
                self._interrupts += number == signal.SIGINT
                if self._interrupts > 1 and self._phase is Phase.DRAINING:
                    self._cut_short()
                self._at_once("still making sure that everything is in the store")
            case Phase.CLOSING:
                self._at_once("unmounting; this takes a few seconds")

    def _cut_short(self) -> None:
        """End the drain. The wait for a request under way may be ended by one more interrupt."""
        self._cut = True
        self._at_once("not waiting any longer; unmounting, which takes a few seconds")
        raise KeyboardInterrupt


def forget_interrupt() -> None:
    """Let the exit code be ours, after an interrupt that was caught.

    One that hit the middle of an ``exec()``, as the import of every dataclass is, ends a
    ``python -m`` by SIGINT whatever has caught it, until another ``exec()`` comes to its end
    (CPython's ``pythonrun.c``, run_eval_code_obj).
    """
    exec("")  # noqa: S102
