"""What Mountpoint uploaded, by its own log: it is the only one that knows every file.

The lines are those of ``mountpoint-s3-fs`` (``fs/handles.rs``, ``superblock.rs``, ``fuse.rs``) and
``mountpoint-s3-client`` (``s3_crt_client.rs``), the same since 1.22. A mount whose log does not
show a trial upload is refused when it comes up, so a change of theirs cannot go unseen.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from mountkit.backends.log_gaps import LogFormat
from mountkit.backends.mountpoint.log_text import DEBUG, plain
from mountkit.backends.mountpoint.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: The value of MOUNTPOINT_LOG that has it tell what is read here: of the requests of its client,
#: only which key an inode has, and of writes only the first to each file. Nothing at trace, which
#: would have the client's own library format every step it takes.
FILTER = (
    "warn,mountpoint_s3=info,awscrt=off,mountpoint_s3_fs::metrics=off,"
    "mountpoint_s3_fs::fs=debug,mountpoint_s3_fs::superblock=debug,"
    "mountpoint_s3_fs::fuse[write{offset=0}]=debug,"
    "mountpoint_s3_client::s3_crt_client::put_object=debug,"
    "mountpoint_s3_client::s3_crt_client::head_object=debug"
)


def _at(stamp: str) -> float:
    """When a record was written, in seconds since the epoch."""
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()


#: See :class:`mountkit.backends.log_gaps.LogGaps`.
FORMAT = LogFormat(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+)",
    r"Z +[A-Z]+ ThreadId\(\d+\) (?=\S)",
    _at,
    lambda text: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}  INFO ThreadId(00) {text}",
)
# A name may hold a newline, so a record ends where the next one begins.
RECORD = re.compile(rf"^{FORMAT.stamp}{FORMAT.rest}", re.MULTILINE)
CUT_OFF = re.compile(rf"[^\n]{FORMAT.stamp}{FORMAT.rest}")
STARTED = re.compile(rf"put_object\{{id=\d+ bucket=\S+ key={DEBUG}\}}: \S+: new request\s*$")
SUCCEEDED = re.compile(
    r'put succeeded etag="(?:\\")?(.*?)(?:\\")?" key=(.*) \(bucket: [^)]*\) size=(\d+)\s*$',
    re.DOTALL,
)
REQUEST = re.compile(
    rf"put_object\{{id=\d+ bucket=\S+ key={DEBUG}\}}.*? error=(.*?) meta request failed\s*$"
)
ABORTED = re.compile(rf"upload already aborted for key \w+ \{{ key: {DEBUG}")
OPERATION = re.compile(rf"^\w+\{{[^}}]*?name={DEBUG}[^}}]*\}}:.*? failed with errno \d+: (.*)$")
REMOVED = re.compile(r"unlink on remote file will delete key (.*) parent=\d+ name=", re.DOTALL)
RENAMED = re.compile(rf"RenameObject succeeded src_key=\w+ \{{ key: {DEBUG}.*? dest_key={DEBUG}")
BEGAN = re.compile(r"mountpoint_s3::run: mount-s3 \d")
# Debug output of an error: the words a person can use are in its quotes.
QUOTED = re.compile(DEBUG)

CUT_SHORT = "the daemon ended while it was being uploaded"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """An upload that came to its end. ``at`` in seconds since the epoch, ``size`` in bytes."""

    at: float
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class Failed:
    """An upload that did not, and why."""

    at: float
    reason: str


@dataclass(slots=True)
class Uploads:
    """The last that is known of each key.

    ``open`` has uploads that have begun, and when. ``said`` is what the last failed operation on a
    file of that name (not path) was told. ``seen`` has every key that was ever uploaded. A key that
    was removed is only in ``gone``, with the time, until it is uploaded again. ``refused`` is what
    a program was not allowed to write.
    """

    done: dict[str, Uploaded] = field(default_factory=dict)
    open: dict[str, float] = field(default_factory=dict)
    failed: dict[str, Failed] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    gone: dict[str, float] = field(default_factory=dict)
    refused: Refusals = field(default_factory=Refusals)

    def copy(self) -> Uploads:
        """A copy that does not change."""
        known = dict(self.done), dict(self.open), dict(self.failed), dict(self.said)
        return Uploads(*known, set(self.seen), dict(self.gone), self.refused.copy())

    def take(self, at: float, text: str) -> None:
        """Take in one record of the log."""
        self.refused.take(at, text)
        for pattern, change in CHANGES:
            match = pattern.search(text)
            if match is not None:
                change(self, at, match)
                return

    def began(self, _at: float, _match: re.Match[str]) -> None:
        """Another daemon: what the one before it had not uploaded is gone."""
        for key, since in self.open.items():
            self.failed[key] = Failed(since, CUT_SHORT)
        self.open.clear()
        self.refused.began()

    def started(self, at: float, match: re.Match[str]) -> None:
        """A file is being written."""
        key = plain(match[1])
        self.open[key] = at
        self.failed.pop(key, None)

    def succeeded(self, at: float, match: re.Match[str]) -> None:
        """The store has it."""
        key = match[2]
        self.refused.stored(key, self.open.pop(key, at), int(match[3]), match.string, at)
        self.failed.pop(key, None)
        self.gone.pop(key, None)
        self.done[key] = Uploaded(at, match[1], int(match[3]))
        self.seen.add(key)

    def request_failed(self, at: float, match: re.Match[str]) -> None:
        """The store did not take it."""
        key = plain(match[1])
        self.open.pop(key, None)
        self.failed[key] = Failed(at, words(match[2]))

    def aborted(self, at: float, match: re.Match[str]) -> None:
        """It was closed after one of its operations had failed."""
        key = plain(match[1])
        self.open.pop(key, None)
        reason = self.said.get(key.rpartition("/")[2], "it was aborted")
        self.failed.setdefault(key, Failed(at, reason))

    def operation_failed(self, _at: float, match: re.Match[str]) -> None:
        """Something was refused; of the path only the last part is told."""
        self.said[plain(match[1])] = match[2].strip()

    def removed(self, at: float, match: re.Match[str]) -> None:
        """A file was deleted through the mount."""
        self.gone[match[1]] = at
        self.refused.removed(match[1])
        for known in (self.done, self.open, self.failed):
            known.pop(match[1], None)

    def renamed(self, at: float, match: re.Match[str]) -> None:
        """The store says that it renamed it."""
        self.refused.renamed(plain(match[1]), plain(match[2]))
        old = self.done.pop(plain(match[1]), None)
        if old is not None:
            self.done[plain(match[2])] = Uploaded(at, old.etag, old.size)


CHANGES: tuple[tuple[re.Pattern[str], Callable[[Uploads, float, re.Match[str]], None]], ...] = (
    (STARTED, Uploads.started),
    (SUCCEEDED, Uploads.succeeded),
    (REQUEST, Uploads.request_failed),
    (ABORTED, Uploads.aborted),
    (OPERATION, Uploads.operation_failed),
    (REMOVED, Uploads.removed),
    (RENAMED, Uploads.renamed),
    (BEGAN, Uploads.began),
)


# Of the logs that this process reads: another thread may be reading one when it is forked.
_LOGS: weakref.WeakSet[MountpointLog] = weakref.WeakSet()


class MountpointLog:
    """The log of one mount's daemons, of which only what is new is read each time.

    ``top`` is what the key of every file in the mount begins with.
    """

    def __init__(self, path: Path, top: str = "") -> None:
        self._path = path
        self._top = top
        self.begin()
        _LOGS.add(self)

    def begin(self) -> None:
        """Know nothing yet."""
        self._lock = threading.Lock()
        self._uploads = Uploads(refused=Refusals(self._top))
        self._offset = 0
        self._inode = 0

    def read(self) -> Uploads:
        """What is known of each key now. A log that is not there yet says nothing.

        Raises OSError if it is there and cannot be read.
        """
        with self._lock:
            try:
                stream = self._path.open("rb")
            except FileNotFoundError:
                return Uploads()
            with stream:
                self._read_on(stream.fileno())
            return self._uploads.copy()

    def _read_on(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if status.st_ino != self._inode or status.st_size < self._offset:
            self._uploads = Uploads(refused=Refusals(self._top))
            self._offset, self._inode = 0, status.st_ino
        fresh = os.pread(descriptor, status.st_size - self._offset, self._offset)
        complete = fresh.rfind(b"\n") + 1
        self._offset += complete
        text = fresh[:complete].decode(errors="surrogateescape")
        for match in reversed(list(CUT_OFF.finditer(text))):
            # What is left of a line would be taken for the end of the one before. See ``log_gaps``.
            begin = text.rfind("\n", 0, match.start() + 1) + 1
            text = text[:begin] + text[match.start() + 1 :]
        starts = list(RECORD.finditer(text))
        ends = [match.start() for match in starts[1:]] + [len(text)]
        for match, end in zip(starts, ends, strict=False):
            self._uploads.take(_at(match[1]), text[match.end() : end])


def _begin_again() -> None:
    """In a process that was just forked."""
    for log in list(_LOGS):
        log.begin()


os.register_at_fork(after_in_child=_begin_again)


@lru_cache(maxsize=32)
def of(path: Path, top: str) -> MountpointLog:
    """The log at that path; the same one each time, so that it is read once."""
    return MountpointLog(path, top)


def words(error: str) -> str:
    """The readable part of an error in Rust's debug form; all of it if there is none."""
    quoted = dict.fromkeys(plain(word) for word in QUOTED.findall(error))
    return ": ".join(word for word in quoted if word) or error
