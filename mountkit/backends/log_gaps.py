"""Lines that a daemon's log lacks, and with them what they would have told.

A disk that is full takes a part of a line, and no more, while the daemon serves on; once there is
room, the next line is written behind that part. So it is where the machine went down.
"""

from __future__ import annotations

import math
import os
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from mountkit.backends.base import LogGap

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# For so long a line, which is written at once, may be under way.
LINE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class LogFormat:
    """How a line begins: ``stamp`` is a pattern with one group, and ``rest`` what comes after it.

    ``seconds`` reads such a stamp as seconds since the epoch, and ``line`` makes a line of the
    daemon's of now, without its end.
    """

    stamp: str
    rest: str
    seconds: Callable[[str], float]
    line: Callable[[str], str]


class LogGaps:
    """The gaps of one log, of which only what is new is read each time.

    What was read is replaced in one step, so several threads may read, and a process may be forked.
    """

    def __init__(
        self,
        log: Path,
        form: LogFormat,
        append: Callable[[Path, bytes], object] | None = None,
    ) -> None:
        self._log = log
        self._append = append or _append
        self._form = form
        self._stamps = re.compile(rf"^{form.stamp}", re.MULTILINE)
        self._cut_off = re.compile(rf"[^\n]{form.stamp}{form.rest}")
        # The log's inode, how far it was read, when its last line was written, and the gaps.
        self._known: tuple[int, int, float, tuple[LogGap, ...]] = (0, 0, 0.0, ())

    def read(self) -> tuple[LogGap, ...]:
        """All of them; one that has no end yet is given one where there is room again.

        Raises OSError if the log is there and cannot be read.
        """
        try:
            stream = self._log.open("rb")
        except FileNotFoundError:
            return ()
        inode, offset, last, gaps = self._known
        with stream:
            status = os.fstat(stream.fileno())
            if status.st_ino != inode or status.st_size < offset:
                offset, last, gaps = 0, 0.0, ()
            fresh = os.pread(stream.fileno(), status.st_size - offset, offset)
        complete = fresh.rfind(b"\n") + 1
        text = fresh[:complete].decode(errors="surrogateescape")
        seconds = self._form.seconds
        for match in self._cut_off.finditer(text):
            # Since the part of a line was begun, or the line before it.
            stamps = self._stamps.findall(text[: match.start() + 1])
            until = seconds(match[1])
            gaps = (*gaps, LogGap((seconds(stamps[-1]) if stamps else last) or until, until))
        last = max([last, *map(seconds, self._stamps.findall(text))])
        self._known = status.st_ino, offset + complete, last, gaps
        if complete < len(fresh) and time.time() - status.st_mtime > LINE_SECONDS:
            return (*gaps, LogGap(status.st_mtime, self._ended()))
        return gaps

    def _ended(self) -> float:
        """Write a line behind the part of one; until when lines are missing."""
        line = self._form.line("mountkit: lines are missing before this one")
        try:
            self._append(self._log, f"{line}\n".encode())
        except OSError:
            return math.inf
        return time.time()


def _append(log: Path, line: bytes) -> None:
    with log.open("ab", buffering=0) as stream:
        stream.write(line)


@lru_cache(maxsize=32)
def of(log: Path, form: LogFormat) -> LogGaps:
    """The one of that log; the same each time, so that it is read once."""
    return LogGaps(log, form)
