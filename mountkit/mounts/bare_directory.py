"""The bare directory that a mount covers, and what is written to it while no mount does.

Between a dead mount and its successor a save can reach the local disk, and the new mount then hides
it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.state.bypassed_files import BypassedFile

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from mountkit.state.bypassed_files import BypassedFiles


class BareDirectory:
    """The directory at ``target``, seen also through the mount that covers it once it is held."""

    def __init__(self, target: str, cache_dir: str, bypassed: BypassedFiles) -> None:
        self._target = target
        self._cache_dir = cache_dir
        self._bypassed = bypassed
        self._descriptor: int | None = None
        #: Since when, and until when, the mount lay over it, in seconds since the epoch.
        self.covered: tuple[float | None, float | None] = (None, None)

    @property
    def held(self) -> bool:
        """Whether it is open."""
        return self._descriptor is not None

    def hold(self) -> None:
        """Open it, unless it is. To be called while nothing covers it."""
        if self._descriptor is None:
            self._descriptor = os.open(self._target, os.O_RDONLY | os.O_DIRECTORY)

    def release(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def name(self) -> tuple[BypassedFile, ...]:
        """Write down the files in it, and move nothing; those that are there.

        No checkpoint that these files belong to is ever proven.
        """
        bare = self._path()
        if bare is None:
            return ()
        found = tuple(bypassed_files_in(bare, self.covered))
        if found:
            self._bypassed.add(found)
        return found

    def keep(self) -> bool:
        """Move what is in it to the cache's ``strays`` folder; whether there was anything."""
        # Named before they are moved: a move that fails must not leave some of them unnamed.
        named = {each.path for each in self.name()}
        bare = self._path()
        entries = [] if bare is None else list(bare.iterdir())
        if not entries:
            return False
        away = self.quarantine()
        away.mkdir(parents=True, mode=0o700)
        try:
            for entry in entries:
                shutil.move(entry, away / entry.name)
        finally:
            # What was made after the first look is there by now.
            self._bypassed.add(bypassed_files_in(away, self.covered, named))
        return True

    def _path(self) -> Path | None:
        """The path of an open directory leads to it, and not to what is mounted over it."""
        return None if self._descriptor is None else Path(f"/proc/self/fd/{self._descriptor}")

    def quarantine(self) -> Path:
        """Where files are kept that nobody can prove; a new directory each time."""
        return Path(self._cache_dir) / "strays" / f"{time.time_ns()}"


def bypassed_files_in(
    folder: Path,
    covered: tuple[float | None, float | None] = (None, None),
    named: Container[str] = (),
) -> Iterator[BypassedFile]:
    """Every file below a directory, relative to it, but for those that are ``named`` by now."""
    for place, _, names in os.walk(folder):
        for name in names:
            file = Path(place) / name
            path = file.relative_to(folder).as_posix()
            # One that its writer has removed meanwhile is not missed.
            with contextlib.suppress(FileNotFoundError):
                if path not in named:
                    yield BypassedFile.of(path, file.lstat(), covered)
