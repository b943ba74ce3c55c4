"""Which files bypassed a mount and reached the bare disk, and what became of directories."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mountkit.state import json_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from pathlib import Path


BYPASSED_NAME = "strays.json"
LOCK_SECONDS = 10.0
# Of a run that saves each minute, a week.
REMEMBERED = 10_000


class BypassedFiles:
    """The list of one mount, in its private directory. Paths are relative to the mount.

    The supervisor and the training, two processes, both change it.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / BYPASSED_NAME

    def add(self, bypassed: Iterable[BypassedFile]) -> None:
        """Remember files that reached the local disk instead of the mount.

        One that lies there from before its directory was begun anew is over.
        """
        with self._lock():
            noted, started = self.found(), self.save_started_at()
            known = {each.occurrence for each in noted}
            new = [each for each in bypassed if not over(each.path, each.at, started)]
            self._write([*noted, *(each for each in new if each.occurrence not in known)])

    def found(self) -> tuple[BypassedFile, ...]:
        """The files that reached the local disk instead of the mount, each time it happened."""
        content = json_file.load(self._path) or {}
        # Earlier versions wrote down names alone.
        named = (BypassedFile(path) for path in content.get("paths", ()))
        return (*named, *(BypassedFile(**each) for each in content.get("found", ())))

    def paths(self) -> tuple[str, ...]:
        """Their names, each once."""
        return tuple(sorted({each.path for each in self.found()}))

    def unnamed(self, before: Iterable[tuple[str, str]]) -> tuple[BypassedFile, ...]:
        """Those of which no earlier run has told, the last of each name.

        ``before``: What had bypassed the mount by the time it was first made.
        """
        told = frozenset(before)
        last = {each.path: each for each in self.found() if each.occurrence not in told}
        return tuple(last[path] for path in sorted(last))

    def begin(self, below: str) -> None:
        """A directory is about to be written: what went wrong with its files before is over."""
        with self._lock():
            kept = [each for each in self.found() if not each.path.startswith(f"{below}/")]
            self._write(kept, anew=[below])

    def save_started_at(self) -> Mapping[str, float]:
        """When each directory was begun to be written last, in seconds since the epoch."""
        return self._moments("anew")

    def note_removed(self, below: str) -> None:
        """A directory is about to be removed from the store, past the mount."""
        with self._lock():
            self._write(self.found(), removed=[below])

    def removed(self) -> Mapping[str, float]:
        """When each directory was removed last, in seconds since the epoch."""
        return self._moments("removed")

    def note_partially_deleted(self, directories: Iterable[str]) -> None:
        """Of these checkpoints something was removed after they were saved."""
        with self._lock():
            self._write(self.found(), lessened=directories)

    def partially_deleted(self) -> Mapping[str, float]:
        """When it was seen last of each checkpoint, in seconds since the epoch."""
        return self._moments("lessened")

    def _moments(self, what: str) -> dict[str, float]:
        return dict((json_file.load(self._path) or {}).get(what, {}))

    def _write(self, found: Iterable[BypassedFile], **now: Iterable[str]) -> None:
        """Replace the list; ``now`` has the directories of which something is noted."""
        content: dict[str, Any] = {"found": [asdict(each) for each in found]}
        for what in ("anew", "removed", "lessened"):
            moments = {**self._moments(what), **dict.fromkeys(now.get(what, ()), time.time())}
            newest = sorted(moments.items(), key=lambda item: item[1])[-REMEMBERED:]
            content[what] = dict(newest)
        json_file.replace(self._path, content)

    def _lock(self) -> FileLock:
        return FileLock(self._path.with_suffix(".lock"), timeout=LOCK_SECONDS, mode=0o600)


def over(path: str, at: float, moments: Mapping[str, float]) -> bool:
    """Whether what happened to a file was before something happened to its directory."""
    directory = path.rpartition("/")[0]
    while directory:
        if at < moments.get(directory, at):
            return True
        directory = directory.rpartition("/")[0]
    return False


@dataclass(frozen=True, slots=True)
class BypassedFile:
    """One time that a file bypassed the mount; the next time under the same name is another one.

    ``path`` is relative to the mount, ``size`` in bytes. ``at`` is when the kernel says that it
    came to the bare directory, which nobody can choose, in seconds since the epoch. ``mark`` tells
    two of the same name apart; it is empty where a mountkit that knew only names noted it.
    ``covered`` and ``until`` say since when and until when the mount lay over the directory, as far
    as whoever found the file knew. A ``torn`` one was left by a daemon that died.
    """

    path: str
    size: int = 0
    at: float = 0.0
    mark: str = ""
    covered: float | None = None
    until: float | None = None
    torn: bool = False

    @classmethod
    def of(
        cls,
        path: str,
        status: os.stat_result,
        covered: tuple[float | None, float | None] = (None, None),
        *,
        torn: bool = False,
    ) -> BypassedFile:
        """The file with that status; a copy of the same size and date is another one."""
        mark = f"{status.st_ino:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
        return cls(path, status.st_size, status.st_ctime, mark, *covered, torn)

    @property
    def occurrence(self) -> tuple[str, str]:
        """What a record keeps of it."""
        return self.path, self.mark
