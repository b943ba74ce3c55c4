"""The bare directory that a mount covers, and what is written to it while no mount does.

Between a dead mount and its successor a save can reach the local disk, and the new mount then hides
it.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mountkit.strays import Strays


class Underneath:
    """The directory at ``target``, seen also through the mount that covers it once it is held."""

    def __init__(self, target: str, cache_dir: str, strays: Strays) -> None:
        self._target = target
        self._cache_dir = cache_dir
        self._strays = strays
        self._descriptor: int | None = None

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

    def name(self) -> Path | None:
        """Write down what is in it, and move nothing. Where it is found, None if it is empty.

        No checkpoint that these files belong to is ever proven.
        """
        if self._descriptor is None:
            return None
        # The path of an open directory leads to it, and not to what is mounted over it.
        bare = Path(f"/proc/self/fd/{self._descriptor}")
        if next(bare.iterdir(), None) is None:
            return None
        self._strays.add(_below(bare))
        return bare

    def keep(self) -> bool:
        """Move what is in it to the cache's ``strays`` folder; whether there was anything."""
        # Named before they are moved: a move that fails must not leave some of them unnamed.
        bare = self.name()
        if bare is None:
            return False
        entries = list(bare.iterdir())
        away = self.aside()
        away.mkdir(parents=True, mode=0o700)
        try:
            for entry in entries:
                shutil.move(entry, away / entry.name)
        finally:
            # What was made after the first look is there by now.
            self._strays.add(_below(away))
        return True

    def aside(self) -> Path:
        """Where files are kept that nobody can prove; a new directory each time."""
        return Path(self._cache_dir) / "strays" / f"{time.time_ns()}"


def _below(folder: Path) -> tuple[str, ...]:
    """Every file below a directory, relative to it."""
    return tuple(
        (Path(place) / name).relative_to(folder).as_posix()
        for place, _, names in os.walk(folder)
        for name in names
    )
