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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# statvfs is never answered from the kernel's caches, and costs the daemon no request to the store.
QUESTION = """
import os, sys
try:
    os.statvfs(sys.argv[1])
except OSError as error:
    sys.exit(error.errno if error.errno and error.errno < 250 else 1)
"""

WRITING = """
import os, sys
path = os.path.join(sys.argv[1], sys.argv[2])
try:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, b"mountkit tried whether this mount takes a file.")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.unlink(path)
except OSError as error:
    sys.exit(error.errno if error.errno and error.errno < 250 else 1)
"""

FLUSHING = """
import ctypes, os, sys
try:
    descriptor = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
except OSError as error:
    sys.exit(error.errno if error.errno and error.errno < 250 else 1)
libc = ctypes.CDLL(None, use_errno=True)
sys.exit(ctypes.get_errno() if libc.syncfs(descriptor) else 0)
"""

MAKING = """
import os, sys
try:
    os.makedirs(sys.argv[1], exist_ok=True)
except OSError as error:
    sys.exit(error.errno if error.errno and error.errno < 250 else 1)
"""

REOPENING = """
import os, sys
for path in sys.stdin.buffer.read().split(b"\\0"):
    try:
        os.close(os.open(os.path.join(os.fsencode(sys.argv[1]), path), os.O_RDONLY))
    except OSError:
        pass
"""


MISSING = """
import os, sys
top, missing = os.fsencode(sys.argv[1]), []
for path in sys.stdin.buffer.read().split(b"\\0"):
    try:
        os.lstat(os.path.join(top, path))
    except FileNotFoundError:
        missing.append(path)
    except OSError:
        pass
sys.stdout.buffer.write(b"\\0".join(missing))
"""


REAL = """
import os, sys
path = os.path.realpath(os.path.join(os.fsencode(sys.argv[1]), sys.stdin.buffer.read()))
sys.stdout.buffer.write(path)
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
    code, _ = _run(QUESTION, (target,), b"", timeout)
    return Answer(code, time.monotonic() - began)


def write(target: str, name: str, timeout: float) -> str:
    """Write a small file directly in the mount, with fsync, and remove it.

    Returns
    -------
    str
        "" if it worked within ``timeout`` seconds, or why not.
    """
    code, _ = _run(WRITING, (target, name), b"", timeout)
    return os.strerror(code) if code else ""


def flush(target: str, timeout: float) -> str:
    """Have the kernel give the daemon what programs wrote through a mapping (man 2 syncfs).

    Returns
    -------
    str
        "" if it worked within ``timeout`` seconds, or why not.
    """
    code, _ = _run(FLUSHING, (target,), b"", timeout)
    return os.strerror(code) if code else ""


def make_folder(path: str, timeout: float) -> str:
    """Make a directory of the mount, and those above it, unless they are there.

    Returns
    -------
    str
        "" if it is there within ``timeout`` seconds, or why not.
    """
    code, _ = _run(MAKING, (path,), b"", timeout)
    return os.strerror(code) if code else ""


def reopen(target: str, paths: Sequence[str], timeout: float) -> None:
    """Open files of the mount once more and close them, for at most ``timeout`` seconds.

    Mountpoint then waits for an upload that was put off, as of a file closed by a forked process.
    Whether it worked is for the store to say.
    """
    _run(REOPENING, (target,), b"\0".join(os.fsencode(path) for path in paths), timeout)


def missing(target: str, paths: Sequence[str], timeout: float) -> frozenset[str]:
    """Those of the ``paths`` that the mount says it does not have, within ``timeout`` seconds."""
    code, told = _run(MISSING, (target,), b"\0".join(map(os.fsencode, paths)), timeout)
    return frozenset(map(os.fsdecode, told.split(b"\0"))) & set(paths) if code == 0 else frozenset()


def real(target: str, path: str, timeout: float) -> str:
    """Where a path of the mount leads, with all links followed; "" without an answer in time."""
    code, told = _run(REAL, (target,), os.fsencode(path), timeout)
    return os.fsdecode(told) if code == 0 else ""


def _run(script: str, words: Sequence[str], data: bytes, timeout: float) -> tuple[int, bytes]:
    """The exit status of a helper, ETIMEDOUT if it hung, and what it wrote."""
    helper = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", script, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Ours may lie in a mount that hangs.
        cwd="/",
    )
    try:
        output, _ = helper.communicate(data, timeout)
    except subprocess.TimeoutExpired:
        helper.kill()
        # It may be in an uninterruptible wait, which ends when the connection does; Popen reaps it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            helper.communicate(timeout=1.0)
        return errno.ETIMEDOUT, b""
    return helper.returncode, output
