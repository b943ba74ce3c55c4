"""What Mountpoint's log says of uploads that failed. Some programs never hear of it otherwise.

The lines are those of ``mountpoint-s3-fs/src/fuse.rs`` and ``mountpoint-s3-client``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TAIL_BYTES = 4 * 1024 * 1024
LINE = re.compile(
    r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d+)Z +(?:WARN|ERROR) ThreadId\(\d+\) (.*)$"
)
OPERATION = re.compile(
    r'^(\w+)\{[^}]*?name="((?:[^"\\]|\\.)*)"[^}]*\}:.*? (?:\w+) failed with errno (\d+): (.*)$'
)
REQUEST = re.compile(
    r'put_object\{[^}]*?key="((?:[^"\\]|\\.)*)"[^}]*\}.*? error=(.*?) meta request failed$'
)
# Debug output of the error: the words a person can use are in its quotes.
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
ESCAPE = re.compile(r"\\u\{([0-9a-f]+)\}|\\(.)")
ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}


@dataclass(frozen=True, slots=True)
class Failure:
    """Something the daemon could not do. ``at`` in seconds since the epoch.

    ``name`` is the key of an upload (``key`` is True), or only the last part of a file's path.
    """

    at: float
    name: str
    reason: str
    key: bool


def failures(log: Path) -> tuple[Failure, ...]:
    """Every failed upload and file operation at the end of a log (its last 4 MiB), in order."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return ()
    return tuple(found for found in map(_failure, text.splitlines()) if found is not None)


def _failure(line: str) -> Failure | None:
    match = LINE.match(line)
    if match is None:
        return None
    day, fraction, rest = match.groups()
    moment = datetime.strptime(day, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    at = moment.timestamp() + float(f"0.{fraction}")
    request = REQUEST.search(rest)
    if request is not None:
        return Failure(at, _plain(request[1]), _words(request[2]), key=True)
    operation = OPERATION.match(rest)
    if operation is not None:
        return Failure(at, _plain(operation[2]), operation[4], key=False)
    return None


def _words(error: str) -> str:
    """The readable part of an error in Rust's debug form; all of it if there is none."""
    quoted = [_plain(word) for word in QUOTED.findall(error)]
    return ": ".join(word for word in quoted if word) or error


def _plain(quoted: str) -> str:
    """A string as it was before Rust's debug form escaped it."""

    def char(match: re.Match[str]) -> str:
        return chr(int(match[1], 16)) if match[1] else ESCAPED.get(match[2], match[2])

    return ESCAPE.sub(char, quoted)
