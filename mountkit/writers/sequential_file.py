"""A file that is written from its start to its end, and that says so if it did not get there.

Mountpoint for S3 takes nothing but sequential writes, and reports a failed upload from fsync(2)
and close(2) only. Whatever those say is raised here, and noted in the mount's journal.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.errors import MountkitError
from mountkit.state.write_journal import content_stamp
from mountkit.store.checksums import REFERENCE, Digester

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from mountkit.state.write_journal import Journal

# So that the checksum and the write after it find the bytes in the processor's cache.
CHUNK_BYTES = 1024 * 1024
# An archive of torch has several tiny writes for each tensor, and each write(2) is a round trip to
# the daemon. As much as one request of FUSE takes is gathered.
GATHER_BYTES = 256 * 1024
REASON_CHARACTERS = 300
FAR_BYTES = 1 << 40
MAPS = Path("/proc/self/maps")
OPEN_FILES = Path("/proc/self/fd")

# Python adds O_CLOEXEC.
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def _leave(_: int) -> None:
    """Closing a file that was broken off keeps what was written."""


def _write_far(descriptor: int) -> None:
    """What no sequential mount takes: Mountpoint aborts the upload, and the old object stays.

    Otherwise closing the file would complete the upload of its beginning, under its own name.
    """
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, b"\0", FAR_BYTES)


@dataclass(frozen=True, slots=True)
class Calls:
    """The system calls of a write; ``abandon`` comes before the close of a torn one."""

    open_: Callable[[str, int, int], int] = os.open
    write: Callable[[int, memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    close: Callable[[int], None] = os.close
    abandon: Callable[[int], None] = _leave


SYSTEM = Calls()
#: For a mount that refuses a write anywhere but at the end.
ON_SEQUENTIAL_MOUNT = Calls(abandon=_write_far)


# Of Mountpoint's log, for a file that a program has open for reading, or mapped.
BEING_READ = "not writable while being read"
OPENED = "opened for writing"


def in_use(path: str, reason: str, *, maps: Path = MAPS, opened: Path = OPEN_FILES) -> str:
    """Who reads a file that takes no new content for that, and what to do; "" if nobody does.

    ``reason`` is what is known so far; ``maps`` and ``opened`` are this process's own.
    """
    try:
        mapped = any(line.endswith(f" {path}") for line in maps.read_text().splitlines())
        held = any(_leads_to(each, path) for each in opened.iterdir())
    except OSError:
        mapped = held = False
    if mapped:
        who = "this process has it mapped, as a model that was loaded from it does"
    elif held:
        who = "this process has it open for reading"
    elif BEING_READ in reason:
        who = "another program reads it"
    else:
        return ""
    return f"{who}. Load it without mmap (or close it), or save to another directory"


def _leads_to(link: Path, path: str) -> bool:
    try:
        return str(link.readlink()) == path
    except OSError:
        # It was closed meanwhile.
        return False


def no_reason(_: str) -> str:
    """Explain nothing: there is only what the system call says."""
    return ""


def no_stamp(_: str, *, whole: bool) -> str:  # noqa: ARG001
    """A mount is not asked: its log tells one content from another."""
    return ""


def stamp(path: str, *, whole: bool) -> str:
    """What tells a file that was written to its end from the next one at that path.

    One that was not is told by its inode alone: closing it may change the rest.
    """
    try:
        seen = os.stat(path)  # noqa: PTH116 - of each file that is saved
    except OSError:
        return ""
    inode = seen.st_ino
    return content_stamp(inode, seen.st_size, seen.st_mtime_ns) if whole else f"{inode:x}"


class SequentialFile:
    """A new file on a mount, or a new content for one that is there. A context manager.

    A block that ends with an exception leaves the file closed and noted as failed, torn or not.
    There is deliberately no ``fileno``, ``seek`` or ``tell``: nobody may write past it.

    Parameters
    ----------
    path:
        The file, absolute.
    name:
        The same relative to the mount, "/" between its parts.
    mount:
        Where the mount is; for what an error says to do next.
    journal:
        Where the write is noted: its beginning, its end or its failure.
    explain:
        From ``name`` to what else is known of a failure, such as the store's words in the daemon's
        log; "" where nothing is.
    calls:
        The system calls.
    stamped:
        From ``path`` to what the file can be told by, for the journal.

    Raises OSError, from every method, if the file cannot be opened, written, uploaded or closed;
    with the ``errno`` of the system call, ``filename``, and a sentence.
    """

    def __init__(
        self,
        path: str,
        name: str,
        mount: str,
        journal: Journal,
        explain: Callable[[str], str] = no_reason,
        calls: Calls = SYSTEM,
        stamped: Callable[..., str] = no_stamp,
    ) -> None:
        self.path = path
        self.name = name
        #: The first failure; torch loses the exceptions of a file that it writes to.
        self.error: OSError | None = None
        self._mount = mount
        self._journal = journal
        self._explain = explain
        self._calls = calls
        self._stamped = stamped
        self._digester = Digester()
        self._gathered = bytearray()
        self._descriptor = -1
        # A forked child has a copy of this object, and must neither write nor note anything.
        self._owner = os.getpid()
        journal.begin(name)
        with self._step(OPENED):
            self._descriptor = calls.open_(path, FLAGS, 0o666)

    @property
    def closed(self) -> bool:
        """Whether it takes no more bytes."""
        return self._descriptor < 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take all of ``data``, any buffer whose bytes lie one after the other; how many it has."""
        self._check()
        view = memoryview(data)
        if not view.nbytes:
            return 0
        view = view.cast("B")
        if len(self._gathered) + view.nbytes > GATHER_BYTES:
            self.flush()
        if view.nbytes < GATHER_BYTES:
            self._gathered += view
        else:
            self._put(view)
        return view.nbytes

    def flush(self) -> None:
        """Hand to the mount what was gathered. It is in the store only after :meth:`finish`."""
        self._check()
        gathered, self._gathered = self._gathered, bytearray()
        self._put(memoryview(gathered))

    def finish(self) -> None:
        """Write the rest, have it uploaded, close the file, and note its size and checksum."""
        if self.closed and self.error is None:
            return
        try:
            self.flush()
            with self._step("uploaded"):
                self._calls.fsync(self._descriptor)
        except BaseException:
            self._drop()
            raise
        with self._step("uploaded"):
            self._calls.close(self._take_descriptor())
        digest = self._digester.result()
        seen = self._stamped(self.path, whole=True)
        self._journal.done(self.name, digest.size, digest.values[REFERENCE], seen)

    close = finish

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, _: object) -> None:
        if kind is None:
            self.finish()
            return
        if self.error is None and not self.closed:
            said = str(error)[:REASON_CHARACTERS]
            self._note(f"its writing was broken off by {kind.__name__}: {said}")
        self._drop()

    def _put(self, view: memoryview) -> None:
        while view.nbytes:
            chunk = view[:CHUNK_BYTES]
            with self._step("written"):
                taken = self._calls.write(self._descriptor, chunk)
                if not taken:
                    raise OSError(errno.EIO, "the mount took none of it")
            self._digester.update(chunk[:taken])
            view = view[taken:]

    def _check(self) -> None:
        if self.error is not None:
            raise self.error
        if self.closed or not self._ours():
            state = "is closed" if self.closed else f"is written by process {self._owner}"
            text = f"{self.name} {state}, and takes no bytes from here. Save it anew"
            raise OSError(errno.EBADF, text, self.path)

    def _ours(self) -> bool:
        return self._owner == os.getpid()

    @contextlib.contextmanager
    def _step(self, what: str) -> Iterator[None]:
        """One system call; ``what`` could not be done if it fails."""
        try:
            yield
        except OSError as error:
            # The log is read by somebody else's code, which must not hide the failure.
            reason = ""
            with contextlib.suppress(OSError, MountkitError):
                reason = self._explain(self.name)
            reason = (reason or error.strerror or str(error)).rstrip(".")
            if what == OPENED and error.errno == errno.EPERM:
                reason = "; ".join(filter(None, (reason, in_use(self.path, reason))))
            text = (
                f"{self.name} could not be {what}: {reason}. "
                f"See the mount: mountkit status {self._mount}"
            )
            self.error = OSError(error.errno or errno.EIO, text, self.path)
            self._note(f"it could not be {what}: {reason}")
            raise self.error from error

    def _note(self, problem: str) -> None:
        # Without this line the beginning is the last word, and that is no success either.
        if self._ours():
            with contextlib.suppress(OSError):
                self._journal.failed(self.name, problem, self._stamped(self.path, whole=False))

    def _take_descriptor(self) -> int:
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def _drop(self) -> None:
        """Close it after a failure, which says more than what closing has to say."""
        if not self.closed:
            descriptor = self._take_descriptor()
            if self._ours():
                self._calls.abandon(descriptor)
            with contextlib.suppress(OSError):
                self._calls.close(descriptor)
