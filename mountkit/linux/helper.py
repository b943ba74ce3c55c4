"""A Python of its own that does what may hang, and can be given up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Sequence

REAP_SECONDS = 1.0
SAID_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Ended:
    """How a helper ended: its status, None if it hung; what it printed, and its last words."""

    status: int | None
    out: bytes
    err: str


def run(words: Sequence[str], timeout: float, data: bytes = b"") -> Ended:
    """Give ``words``, a script and its arguments, to a bare Python, and ``data`` to its stdin.

    What it forked ends with it.
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
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = helper.wait(timeout)
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


def _memory(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(name), "w+b")
