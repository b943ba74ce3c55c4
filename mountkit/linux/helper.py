"""A Python of its own that does what may hang, and can be given up."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

REAP_SECONDS = 1.0
WATCH_SECONDS = 0.5
SAID_CHARACTERS = 300
PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """How a helper ended: its status, None if it hung; what it printed, and its last words."""

    status: int | None
    out: bytes
    err: str


def run(
    words: Sequence[str],
    timeout: float,
    data: bytes = b"",
    watch: Callable[[], object] | None = None,
) -> Ended:
    """Give ``words``, a script and its arguments, to a bare Python, and ``data`` to its stdin.

    What it forked ends with it. ``watch`` is called while it is waited for, and may raise: then it
    is given up.
    """
    # Not pipes: what it wrote can be read even if it cannot be killed. Nor files: a disk may be
    # full.
    with _memory("in") as given, _memory("out") as out, _memory("err") as err:
        given.write(data)
        given.seek(0)
        helper = subprocess.Popen(
            [sys.executable, "-I", "-S", *words],
            stdin=given,
            stdout=out,
            stderr=err,
            # Ours may lie in a mount that hangs.
            cwd="/",
            # The interrupt of a terminal is ours to handle.
            start_new_session=True,
        )
        status = None
        try:
            status = _wait(helper, timeout, watch)
        finally:
            if status is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(helper.pid, signal.SIGKILL)
                # In an uninterruptible wait it ends only when the mount does; Popen reaps it then.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    helper.wait(REAP_SECONDS)
        out.seek(0)
        return Ended(status, out.read(), _last_words(err))


class HelperFailedError(Exception):
    """A helper ended with that status; ``said`` are its last words."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said or f"exit status {status}")
        self.status = status


def stream(words: Sequence[str], silence: float) -> Generator[bytes, None, None]:
    """What such a Python prints, piece by piece, while it goes on.

    Raises HelperFailedError if it ends with another status than 0; TimeoutError if it says nothing
    for ``silence`` seconds.
    """
    with _memory("err") as err:
        helper = subprocess.Popen(
            [sys.executable, "-I", "-S", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=err,
            cwd="/",
            start_new_session=True,
        )
        try:
            yield from _pieces(helper, silence)
            try:
                status = helper.wait(silence)
            except subprocess.TimeoutExpired as error:
                raise _silent(silence) from error
            if status != 0:
                raise HelperFailedError(status, _last_words(err))
        finally:
            helper.kill()
            if helper.stdout is not None:
                helper.stdout.close()
            # As above.
            with contextlib.suppress(subprocess.TimeoutExpired):
                helper.wait(REAP_SECONDS)


def _silent(seconds: float) -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, f"no answer in {seconds:.0f} s")


def _last_words(err: BinaryIO) -> str:
    err.seek(0)
    lines = err.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:SAID_CHARACTERS] if lines else ""


def _pieces(helper: subprocess.Popen[bytes], silence: float) -> Iterator[bytes]:
    descriptor = -1 if helper.stdout is None else helper.stdout.fileno()
    # Not select, which takes no descriptor over 1023: a training may have that many.
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        if not poll.poll(silence * 1000):
            raise _silent(silence)
        piece = os.read(descriptor, PIECE_BYTES)
        if not piece:
            return
        yield piece


def _wait(
    helper: subprocess.Popen[bytes], timeout: float, watch: Callable[[], object] | None
) -> int | None:
    if timeout <= 0:
        # No time is no answer, also where the machine was slow and it has ended meanwhile.
        return None
    end = time.monotonic() + timeout
    while True:
        left = max(0.0, end - time.monotonic())
        with contextlib.suppress(subprocess.TimeoutExpired):
            return helper.wait(left if watch is None else min(left, WATCH_SECONDS))
        if watch is None or left <= WATCH_SECONDS:
            return None
        watch()


def _memory(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(name), "w+b")
