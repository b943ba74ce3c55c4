"""Is the mount alive? Asked from a helper process that can be killed when the answer never comes.

The only module besides the training itself that touches a mount.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit.linux import helper

if TYPE_CHECKING:
    from collections.abc import Sequence

FRAME = """
import os, sys
try:
    {}
except OSError as error:
    sys.exit(error.errno if error.errno and error.errno < 250 else 1)
"""

# statvfs is never answered from the kernel's caches, and costs the daemon no request to the store.
QUESTION = FRAME.format("os.statvfs(sys.argv[1])")
MAKING = FRAME.format("os.makedirs(sys.argv[1], exist_ok=True)")

WRITING = FRAME.format("""
    path = os.path.join(sys.argv[1], sys.argv[2])
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, b"mountkit tried whether this mount takes a file.")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.unlink(path)
""")

# The time of its last change is the file system's own, and no program's. Asked here: the start of
# this process may take a second, and is no difference; nor is the wait for a server, which dates
# the file somewhere within it, so that the shortest of some waits tells the most.
CLOCK = FRAME.format("""
    import time
    path = os.path.join(sys.argv[1], sys.argv[2])
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    told = []
    try:
        while not told or (min(told)[0] > 0.1 and sum(wait for wait, _ in told) < 5.0):
            before = time.time()
            os.write(descriptor, b"mountkit asks what time it is here.")
            os.fsync(descriptor)
            dated, after = os.fstat(descriptor).st_ctime, time.time()
            # A kernel takes it from its last tick.
            least, most = dated - after, dated - before + 0.02
            told.append((after - before, max(least, min(0.0, most))))
        sys.stdout.write(str(min(told)[1]))
    finally:
        os.close(descriptor)
    os.unlink(path)
""")

FLUSHING = FRAME.format("""
    import ctypes
    descriptor = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
    libc = ctypes.CDLL(None, use_errno=True)
    sys.exit(ctypes.get_errno() if libc.syncfs(descriptor) else 0)
""")

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
    code, _ = _run(QUESTION, (target,), timeout)
    return Answer(code, time.monotonic() - began)


def write(target: str, name: str, timeout: float) -> str:
    """Write a small file directly in the mount, with fsync, and remove it; why not, or ""."""
    return _why_not(WRITING, (target, name), timeout)


def clock_ahead(target: str, name: str, timeout: float) -> tuple[str, float]:
    """What dates a small file that is made there and removed: why it was not, and how far ahead.

    That is by how many seconds the clock of the file system, which may be another machine's, is
    ahead of this one's.
    """
    code, told = _run(CLOCK, (target, name), timeout)
    return (os.strerror(code), 0.0) if code else ("", float(told))


def flush(target: str, timeout: float) -> str:
    """Have the kernel give the daemon what programs wrote through a mapping (man 2 syncfs).

    Returns why it could not, or "".
    """
    return _why_not(FLUSHING, (target,), timeout)


def make_folder(path: str, timeout: float) -> str:
    """Make a directory of the mount, and those above it, unless they are there; why not, or ""."""
    return _why_not(MAKING, (path,), timeout)


def reopen(target: str, paths: Sequence[str], timeout: float) -> None:
    """Open files of the mount once more and close them, for at most ``timeout`` seconds.

    Mountpoint then waits for an upload that was put off, as of a file closed by a forked process.
    Whether it worked is for the store to say.
    """
    _run(REOPENING, (target,), timeout, b"\0".join(map(os.fsencode, paths)))


def missing(target: str, paths: Sequence[str], timeout: float) -> frozenset[str]:
    """Those of the ``paths`` that the mount says it does not have, within ``timeout`` seconds."""
    code, told = _run(MISSING, (target,), timeout, b"\0".join(map(os.fsencode, paths)))
    return frozenset(map(os.fsdecode, told.split(b"\0"))) & set(paths) if code == 0 else frozenset()


def real(target: str, path: str, timeout: float) -> str:
    """Where a path of the mount leads, with all links followed; "" without an answer in time."""
    code, told = _run(REAL, (target,), timeout, os.fsencode(path))
    return os.fsdecode(told) if code == 0 else ""


def _why_not(script: str, words: Sequence[str], timeout: float) -> str:
    code, _ = _run(script, words, timeout)
    return os.strerror(code) if code else ""


def _run(script: str, words: Sequence[str], timeout: float, data: bytes = b"") -> tuple[int, bytes]:
    """The exit status of a helper, ETIMEDOUT if it hung, and what it wrote."""
    ended = helper.run(["-c", script, *words], timeout, data)
    return (errno.ETIMEDOUT, b"") if ended.status is None else (ended.status, ended.out)
