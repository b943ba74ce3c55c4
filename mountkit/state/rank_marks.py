"""Which ranks of a node have said that their save of a checkpoint is over. Outside the bucket.

The ranks of one node share the private directory of their mount. The first of them notes that a
save begins, each of them when its own part is over. One process alone is rank 0.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit.errors import ConfigurationError
from mountkit.state import json_file

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

FOLDER = "ranks"
SAVE_NAME = "save.json"


@dataclass(frozen=True, slots=True)
class RankedSave:
    """A save: its own name, the ranks that share this mount, and who is done.

    ``alone``: Whether all ranks of the training share this mount. ``at``: When it began, in seconds
    since the epoch.
    """

    save: str
    ranks: tuple[int, ...]
    done: frozenset[int]
    alone: bool
    at: float = math.inf

    @property
    def missing(self) -> tuple[int, ...]:
        """The ranks that have not said that their save is over."""
        return tuple(rank for rank in self.ranks if rank not in self.done)

    @property
    def whole(self) -> bool:
        """Whether all that was saved of it was saved through this mount, and is over."""
        return self.alone and not self.missing


class RankMarks:
    """The marks in the private directory of one mount; a checkpoint is named relative to it."""

    def __init__(self, path: Path) -> None:
        self._path = path / FOLDER

    def begin(self, top: str, save: str, ranks: Collection[int], *, alone: bool) -> None:
        """A save begins: no rank is done, and what was marked of an earlier one is forgotten."""
        self.forget(top)
        folder = self._folder(top)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        known = {"top": top, "save": save, "ranks": sorted(ranks), "alone": alone}
        content = {**known, "at": time.time()}
        json_file.replace(folder / SAVE_NAME, content)

    def done(self, top: str, save: str, rank: int) -> None:
        """A rank's part of that save is over."""
        (self._folder(top) / f"{save}.{rank}").touch(mode=0o600)

    def read(self, top: str) -> RankedSave | None:
        """The last save of that checkpoint that is not proven; None if none is known.

        Raises ConfigurationError if what is noted of it cannot be read.
        """
        folder = self._folder(top)
        content = json_file.load(folder / SAVE_NAME)
        if content is None:
            return None
        save, ranks = content.get("save"), content.get("ranks")
        if not isinstance(save, str) or not isinstance(ranks, list):
            raise ConfigurationError(
                f"{folder / SAVE_NAME} holds no save.", hint=f"Remove it: rm -r {folder}"
            )
        done = frozenset(rank for rank in ranks if (folder / f"{save}.{rank}").exists())
        # An earlier version noted no time.
        at = float(content.get("at", math.inf))
        return RankedSave(save, tuple(ranks), done, content.get("alone") is True, at)

    def forget(self, top: str) -> None:
        """Its manifest is written, or one process alone saves it anew."""
        shutil.rmtree(self._folder(top), ignore_errors=True)

    def clear(self) -> None:
        """Another run begins, which takes nothing over."""
        shutil.rmtree(self._path, ignore_errors=True)

    def _folder(self, top: str) -> Path:
        # A path may be longer than a name can be.
        return self._path / hashlib.sha256(top.encode(errors="surrogateescape")).hexdigest()[:32]
