"""Remove a directory of a mount on which it is gone with the last file in it.

On Mountpoint for S3 a directory is nothing but the files below it, unless it was made and nothing
was put in yet. Whoever removes a tree removes its files first, and ``rmdir`` then finds nothing:
ENOENT. While such a mount is installed, ``os.rmdir`` takes that for the success that it is, where
the daemon's log tells that a file below that directory was removed. Everything that removes a tree
in Python ends in it: ``shutil.rmtree``, ``os.removedirs``, ``Path.rmdir``. Any other error, and a
directory that was never there, are raised as ever.
"""

from __future__ import annotations

import contextlib
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

REMOVED = " (deleted)"

#: The functions to replace, as for ``hooks``.
FUNCTIONS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType({"os": (("os", "rmdir"),)})


class Taken:
    """Which removals were taken for success, so that the next of the same directory is none."""

    def __init__(self) -> None:
        self._moments: dict[str, float] = {}

    def new(self, path: str, at: float) -> bool:
        """Whether a file below ``path`` was removed at ``at``, and this is heard the first time."""
        if at <= self._moments.get(path, 0.0):
            return False
        self._moments[path] = at
        return True


def never(_: str) -> float:
    """Nothing is known to have been removed."""
    return 0.0


def plain(path: Any, dir_fd: int | None) -> Any:
    """The path of a directory as others know it, without a slash at its end; "" if unknown."""
    try:
        name = os.fsdecode(path)
    except TypeError:
        return ""
    if dir_fd is not None and not name.startswith("/"):
        place = _place_of(dir_fd)
        name = place and f"{place}/{name}"
    return name.rstrip("/")


def _place_of(descriptor: int) -> str:
    """Where an open directory is, or was."""
    with contextlib.suppress(OSError):
        place = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
        # The kernel says so of one that somebody has looked for in vain since it was opened.
        gone = place.endswith(REMOVED) and not os.path.lexists(place)
        return place.removesuffix(REMOVED) if gone else place
    return ""
