"""Bytes that rclone could not write into its cache, by its log: a program may hide the error.

What rclone's mount answers with EIO is logged as ``IO error`` (``cmd/mount2`` and ``cmd/mount``,
``translateError``), and what the disk of the cache said is in Go's words: the operation, the place,
and why. The cache then holds a file that is whole to rclone, and shorter than its program wanted.
"""

from __future__ import annotations

import ctypes
import os
import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# With a fraction of a second as mountkit has it logged; without one by a daemon of before.
STAMP = r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?:\.\d+)?)"
FAILED = re.compile(
    rf"^{STAMP} ERROR *: IO error: (?:.*: )?(?:write|truncate|open|pwrite) (/.*): ([^:\n]+)$",
    re.MULTILINE,
)

_AT_FDCWD = -100
_NOT_FOLLOWED = 0x100
_BIRTH = 0x800
_STATX_BYTES = 256
# By statx(2): the mask, and where the time of birth begins.
_MASK, _BORN = slice(0, 4), slice(80, 92)
_SECOND = 1_000_000_000


class RcloneRefusals:
    """What one log tells of, of which only what is new is read each time.

    What was read is replaced in one step, so several threads may read, and a process may be forked.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._known: tuple[int, int, Mapping[str, tuple[float, str]]] = (0, 0, {})

    def read(self) -> Mapping[str, tuple[float, str]]:
        """When each file of a cache, by its path on the disk, was refused bytes last, and why.

        Raises OSError if the log is there and cannot be read.
        """
        try:
            stream = self._log.open("rb")
        except FileNotFoundError:
            return {}
        with stream:
            inode, offset, found = self._known
            status = os.fstat(stream.fileno())
            if status.st_ino != inode or status.st_size < offset:
                offset, found = 0, {}
            fresh = os.pread(stream.fileno(), status.st_size - offset, offset)
        complete = fresh.rfind(b"\n") + 1
        text = fresh[:complete].decode(errors="surrogateescape")
        new = {place: (seconds(at), why) for at, place, why in FAILED.findall(text)}
        found = {**found, **new}
        self._known = status.st_ino, offset + complete, found
        return found


@lru_cache(maxsize=32)
def of(log: Path) -> RcloneRefusals:
    """The one of that log; the same each time, so that it is read once."""
    return RcloneRefusals(log)


def seconds(stamp: str) -> float:
    """A time as rclone logs it, in seconds since the epoch; 0 if it is none."""
    whole, _, fraction = stamp.partition(".")
    try:
        at = datetime.strptime(f"{whole} +0000", "%Y/%m/%d %H:%M:%S %z").timestamp()
    except ValueError:
        return 0.0
    return at + float(f"0.{fraction or 0}")


def made_since(path: Path, at: float) -> bool:
    """Whether a file was made, and not only changed, after that moment.

    One that was removed and written anew, or renamed over the old one, is another file. Where the
    kernel or the file system tells no time of birth, nobody knows.
    """
    block = ctypes.create_string_buffer(_STATX_BYTES)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        statx = libc.statx
    except AttributeError:
        return False
    if statx(_AT_FDCWD, os.fsencode(path), _NOT_FOLLOWED, _BIRTH, block):
        return False
    if not int.from_bytes(block.raw[_MASK], "little") & _BIRTH:
        return False
    whole = int.from_bytes(block.raw[_BORN][:8], "little", signed=True)
    rest = int.from_bytes(block.raw[_BORN][8:], "little")
    return whole + rest / _SECOND > at
