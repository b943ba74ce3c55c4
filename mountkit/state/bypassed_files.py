"""Which files went past a mount to the bare disk, and what became of directories."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mountkit.state import json_file

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path


STRAYS_NAME = "strays.json"
LOCK_SECONDS = 10.0
REMEMBERED = 1000


class Strays:
    """The list of one mount, in its private directory. Paths are relative to the mount.

    The supervisor and the training, two processes, both change it.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / STRAYS_NAME

    def add(self, strays: Iterable[Stray]) -> None:
        """Remember files that reached the local disk instead of the mount.

        One that lies there from before its directory was begun anew is over.
        """
        with self._lock():
            had, begun = self.found(), self.begun()
            known = {stray.occurrence for stray in had}
            new = (stray for stray in strays if not over(stray.path, stray.at, begun))
            self._write((*had, *(stray for stray in new if stray.occurrence not in known)))

    def found(self) -> tuple[Stray, ...]:
        """The files that reached the local disk instead of the mount, each time it happened."""
        content = json_file.load(self._path) or {}
        # Earlier versions wrote down names alone.
        named = tuple(Stray(path) for path in content.get("paths", ()))
        return (*named, *(Stray(**stray) for stray in content.get("found", ())))

    def paths(self) -> tuple[str, ...]:
        """Their names, each once."""
        return tuple(sorted({stray.path for stray in self.found()}))

    def begin(self, below: str) -> None:
        """A directory is about to be written: what went wrong with its files before is over."""
        with self._lock():
            kept = [stray for stray in self.found() if not stray.path.startswith(f"{below}/")]
            self._write(kept, anew=[below])

    def begun(self) -> Mapping[str, float]:
        """When each directory was begun to be written last, in seconds since the epoch."""
        return self._moments("anew")

    def note_removed(self, below: str) -> None:
        """A directory was removed from the store, past the mount."""
        with self._lock():
            self._write(self.found(), removed=[below])

    def removed(self) -> Mapping[str, float]:
        """When each directory was removed last, in seconds since the epoch."""
        return self._moments("removed")

    def note_lessened(self, directories: Iterable[str]) -> None:
        """Of these checkpoints something was removed after they were saved."""
        with self._lock():
            self._write(self.found(), lessened=directories)

    def lessened(self) -> Mapping[str, float]:
        """When it was seen last of each checkpoint, in seconds since the epoch."""
        return self._moments("lessened")

    def _moments(self, what: str) -> dict[str, float]:
        return dict((json_file.load(self._path) or {}).get(what, {}))

    def _write(self, found: Iterable[Stray], **now: Iterable[str]) -> None:
        """Replace the list; ``now`` has the directories of which something is noted."""
        content: dict[str, Any] = {"found": [asdict(stray) for stray in found]}
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
class Stray:
    """One time that a file missed the mount; the next time under the same name is another one.

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
    ) -> Stray:
        """The file with that status; a copy of the same size and date is another one."""
        mark = f"{status.st_ino:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
        return cls(path, status.st_size, status.st_ctime, mark, *covered, torn)

    @property
    def occurrence(self) -> tuple[str, str]:
        """What a record keeps of it."""
        return self.path, self.mark


def unnamed(found: Iterable[Stray], before: Collection[tuple[str, str]]) -> tuple[Stray, ...]:
    """Those of which no earlier run has told, the last of each name."""
    last = {stray.path: stray for stray in found if stray.occurrence not in before}
    return tuple(last[path] for path in sorted(last))
