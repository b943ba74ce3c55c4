"""A Python of its own that does what may hang, and can be given up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REAP_SECONDS = 1.0
WATCH_SECONDS = 0.5
SAID_CHARACTERS = 300


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
        err.seek(0)
        lines = err.read().decode(errors="replace").strip().splitlines()
        return Ended(status, out.read(), lines[-1][:SAID_CHARACTERS] if lines else "")


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
