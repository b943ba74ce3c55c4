"""What mountkit's own writers wrote through a mount, noted line by line as they wrote it."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

JOURNAL_NAME = "written.jsonl"
#: Of the direct backend: what was read of files that others wrote, when they were first seen.
READ_NAME = "read.jsonl"

UNFINISHED = "it was being written when its writer ended"
TORN = "its line in the journal is torn, so how the write ended is not known"
DOUBTFUL = "a later line of the journal is unreadable, and may have been about this file"

# Time and path are the first things in a line: the one tells two journals apart, and by the other
# a line that is torn later still says whose it was.
_BEGINNING = re.compile(rb'\{"at": ([0-9.e+]+), "path": ("(?:[^"\\]|\\.)*")')
_HEAD_BYTES = 64


@dataclass(frozen=True, slots=True)
class Written:
    """The last that is known of one file.

    ``path`` is relative to the mount, ``size`` in bytes, ``crc64nvme`` base64, ``at`` in seconds
    since the epoch. ``problem`` is "" if the write came to its end, and says why not otherwise;
    then size and checksum mean nothing. ``stamp`` is what the file could be told by then; "" where
    nobody noted it.
    """

    path: str
    size: int
    crc64nvme: str
    at: float
    problem: str
    stamp: str = ""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was read so far: up to ``offset`` of a file that begins with ``head``."""

    offset: int = 0
    head: bytes = b""
    words: dict[str, Written] = field(default_factory=dict)


def content_stamp(inode: int, size: int, modified: int) -> str:
    """What tells a file with its content from the next one; ``modified`` in nanoseconds."""
    return f"{inode:x}-{size:x}-{modified:x}"


class Journal:
    """An append-only file in the private directory of a mount, shared by all of its writers.

    It is never rewritten, because that would need a lock between all processes of a training, and
    gains little: a line has some 150 bytes and each path is mostly written once. A save of ten
    files every ten minutes adds 0.5 MB a day, and a reader takes in only what is new to it.
    """

    def __init__(self, directory: Path, name: str = JOURNAL_NAME) -> None:
        self._file = directory / name
        self._seen = _Seen()

    def begin(self, path: str) -> None:
        """Note that ``path`` is about to be written: what was known of it holds no longer.

        Raises OSError if that cannot be noted; then it must not be written either.
        """
        self._append({"at": time.time(), "path": path})

    def done(self, path: str, size: int, crc64nvme: str, stamp: str = "") -> None:
        """Note that ``path`` was written to its end: ``size`` bytes with that checksum (base64).

        Raises OSError if that cannot be noted; the file then counts as unfinished.
        """
        more = {"stamp": stamp} if stamp else {}
        self._append(
            {"at": time.time(), "path": path, "size": size, "crc64nvme": crc64nvme, **more}
        )

    def failed(self, path: str, problem: str, stamp: str = "") -> None:
        """Note why ``path`` did not come to its end.

        Raises OSError if that cannot be noted; the file then counts as unfinished.
        """
        more = {"stamp": stamp} if stamp else {}
        self._append({"at": time.time(), "path": path, "problem": problem or UNFINISHED, **more})

    def read(self) -> dict[str, Written]:
        """The last word on every path.

        A line that cannot be read makes its file doubtful, or every file noted before it if it does
        not even tell its path. Only a last line without its end is left for later.

        Raises OSError if there is a journal and it cannot be read.
        """
        try:
            seen, fresh = self._read_on()
        except FileNotFoundError:
            return {}
        except OSError as error:
            # What fails once it is open does not say which file it was.
            error.filename = str(self._file)
            raise
        complete = fresh.rfind(b"\n") + 1
        words = dict(seen.words)
        for line in fresh[:complete].split(b"\n"):
            if line:
                _take(line, words)
        head = seen.head + fresh[: max(0, min(complete, _HEAD_BYTES - len(seen.head)))]
        self._seen = _Seen(seen.offset + complete, head, words)
        return dict(words)

    def _read_on(self) -> tuple[_Seen, bytes]:
        """What was read before of the same journal, and all that has come since."""
        with self._file.open("rb") as stream:
            seen = self._seen
            # Another process may have cleared it, and the new file may have the old one's inode.
            # Its first line has another time in it, though.
            if stream.read(len(seen.head)) != seen.head:
                seen = _Seen()
            stream.seek(seen.offset)
            return seen, stream.read()

    def _append(self, content: dict[str, object]) -> None:
        # The first newline ends what a full disk may have left of an earlier line. All in one
        # write, so that the lines of several processes do not mix.
        line = b"\n" + json.dumps(content).encode("ascii") + b"\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = os.open(self._file, flags, 0o600)
        try:
            taken = os.write(descriptor, line)
        finally:
            os.close(descriptor)
        if taken != len(line):
            raise OSError(
                f"{self._file} took only a part of what was written to it, so {content['path']!r} "
                f"counts as unfinished. Make room: df -h {self._file.parent}"
            )


def _take(line: bytes, words: dict[str, Written]) -> None:
    """Take in one line, in place."""
    word = _word(line) or _torn(line)
    if word:
        words[word.path] = word
        return
    for path, earlier in words.items():
        if not earlier.problem:
            words[path] = Written(path, 0, "", earlier.at, DOUBTFUL)


def _torn(line: bytes) -> Written | None:
    found = _BEGINNING.match(line)
    if found is None:
        return None
    try:
        return Written(json.loads(found[2]), 0, "", float(found[1]), TORN)
    except ValueError:
        return None


def _word(line: bytes) -> Written | None:
    try:
        content = json.loads(line)
        at, path = float(content["at"]), content["path"]
        problem = content.get("problem", UNFINISHED)
        size, checksum = content.get("size", 0), content.get("crc64nvme", "")
        stamp = content.get("stamp", "")
        ended = "size" in content and "crc64nvme" in content and "problem" not in content
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    sound = isinstance(path, str) and isinstance(problem, str) and isinstance(stamp, str)
    if not sound or not isinstance(size, int) or not isinstance(checksum, str):
        return None
    if not ended:
        return Written(path, 0, "", at, problem or UNFINISHED, stamp)
    return Written(path, size, checksum, at, "", stamp)
