"""Is the mount alive? Asked from a helper process that can be killed when the answer never comes.

The only module besides the training itself that touches a mount.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
from dataclasses import dataclass

# statvfs is never answered from the kernel's caches, and costs the daemon no request to the store.
QUESTION = """
import os, sys
try:
    os.statvfs(sys.argv[1])
except OSError as error:
    sys.exit(error.errno if error.errno and error.errno < 250 else 1)
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a mount answered. ``error`` is 0 (alive) or an errno; ETIMEDOUT when it hung."""

    error: int
    seconds: float

    @property
    def alive(self) -> bool:
        """Whether the mount serves."""
        return self.error == 0

    def __str__(self) -> str:
        return "alive" if self.alive else os.strerror(self.error)


def ask(target: str, timeout: float) -> Answer:
    """Ask the mount at ``target``, waiting at most ``timeout`` seconds."""
    began = time.monotonic()
    helper = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", QUESTION, target],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        code = helper.wait(timeout)
    except subprocess.TimeoutExpired:
        helper.kill()
        # It may be in an uninterruptible wait, which ends when the connection does; Popen reaps it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            helper.wait(1.0)
        code = errno.ETIMEDOUT
    return Answer(code, time.monotonic() - began)
