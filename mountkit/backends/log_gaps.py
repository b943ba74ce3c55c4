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
from mountkit.errors import MountUnavailableError

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


def _append(log: Path, line: bytes) -> bool:
    """Write behind a log; whether there was room for all of it."""
    with log.open("ab", buffering=0) as stream:
        return stream.write(line) == len(line)


class LogGaps:
    """The gaps of one log, of which only what is new is read each time.

    What was read is replaced in one step, so several threads may read, and a process may be forked.
    """

    def __init__(
        self,
        log: Path,
        form: LogFormat,
        append: Callable[[Path, bytes], bool] = _append,
    ) -> None:
        self._log = log
        self._append = append
        self._form = form
        self._stamps = re.compile(rf"^{form.stamp}", re.MULTILINE)
        self._cut_off = re.compile(rf"[^\n]{form.stamp}{form.rest}")
        # The log's inode, how far it was read, when its last line was written, and the gaps.
        self._known: tuple[int, int, float, tuple[LogGap, ...]] = (0, 0, 0.0, ())

    def read(self) -> tuple[LogGap, ...]:
        """All of them; one that has no end yet is given one where there is room again.

        Raises MountUnavailableError if the log is there and cannot be read.
        """
        try:
            gaps, size, part = self._read_on()
            if part:
                time.sleep(LINE_SECONDS)
                gaps, again, part = self._read_on()
                if part and again == size:
                    # Not by the time of the file, which each write that is refused sets anew.
                    return (*gaps, LogGap(self._began(part, self._known[2]), self._ended()))
        except OSError as error:
            raise MountUnavailableError(
                f"What the daemon has noted cannot be read: {error}.",
                hint=f"See what became of it: ls -la {self._log.parent}",
            ) from error
        return gaps

    def _read_on(self) -> tuple[tuple[LogGap, ...], int, str]:
        """The gaps that have an end, the size of the log, and the last line where it has none."""
        try:
            stream = self._log.open("rb")
        except FileNotFoundError:
            return (), 0, ""
        inode, offset, last, gaps = self._known
        with stream:
            status = os.fstat(stream.fileno())
            if status.st_ino != inode or status.st_size < offset:
                offset, last, gaps = 0, 0.0, ()
            fresh = os.pread(stream.fileno(), status.st_size - offset, offset)
        complete = fresh.rfind(b"\n") + 1
        text = fresh[:complete].decode(errors="surrogateescape")
        for match in self._cut_off.finditer(text):
            since = self._began(text[: match.start() + 1], last)
            gaps = (*gaps, LogGap(since, self._form.seconds(match[1])))
        last = self._began(text, last)
        self._known = status.st_ino, offset + complete, last, gaps
        # Of more than one read takes, what is left has its turn.
        whole = offset + len(fresh) == status.st_size
        part = fresh[complete:].decode(errors="surrogateescape") if whole else ""
        return gaps, status.st_size, part

    def _began(self, text: str, last: float) -> float:
        """When the last line of a text was begun that has its time; ``last`` if none has."""
        stamps = self._stamps.findall(text)
        return self._form.seconds(stamps[-1]) if stamps else last

    def _ended(self) -> float:
        """Write a line behind the part of one; until when lines are missing."""
        line = self._form.line("mountkit: lines are missing before this one")
        try:
            whole = self._append(self._log, f"{line}\n".encode())
        except OSError:
            whole = False
        return time.time() if whole else math.inf


@lru_cache(maxsize=32)
def of(log: Path, form: LogFormat) -> LogGaps:
    """The one of that log; the same each time, so that it is read once."""
    return LogGaps(log, form)
