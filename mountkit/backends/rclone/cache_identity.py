"""See that the directories of a cache are those that a daemon began with.

Where they are taken away while a mount serves, what was written through it is not known any more:
an empty cache looks the same as one to which nothing was written.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from typing import TYPE_CHECKING

from mountkit.errors import ConfigurationError
from mountkit.state import json_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ATTRIBUTE = "user.mountkit"


class CacheRoots:
    """The directories, and a note of them outside, which every process finds."""

    def __init__(self, note: Path, folders: Sequence[Path]) -> None:
        self._note = note
        self._folders = tuple(folders)

    def remember(self) -> None:
        """Note which they are; a note of this mount that is there already stays.

        So a daemon that is started again finds out what became of the cache of the one before.
        """
        if self._note.exists():
            return
        mark = uuid.uuid4().hex
        for folder in self._folders:
            # Not every file system knows attributes. Where a new directory never gets the number
            # of one that is gone, its number is enough.
            with contextlib.suppress(OSError):
                os.setxattr(folder, ATTRIBUTE, mark.encode())
        json_file.replace(self._note, {str(folder): _identity(folder) for folder in self._folders})

    def problem(self) -> str:
        """What became of them since they were noted; "" if they are the same, or not noted."""
        try:
            noted = json_file.load(self._note)
        except ConfigurationError as error:
            return error.message
        for folder in self._folders:
            if noted is None:
                break
            there = _identity(folder)
            if there != noted.get(str(folder)):
                became = "is gone" if there is None else "is another one than before"
                return f"The local cache was taken away while it was in use: {folder} {became}."
        return ""

    def forget(self) -> None:
        """Another mount begins, or nothing is left that anybody would miss."""
        self._note.unlink(missing_ok=True)


def _identity(folder: Path) -> str | None:
    """What tells a directory from another one at the same place; None if it cannot be seen.

    Not its device, whose number may be another one after a restart.
    """
    try:
        number = folder.stat().st_ino
    except OSError:
        return None
    try:
        # A directory that is removed may leave its number to the next one, but not its attributes.
        return os.getxattr(folder, ATTRIBUTE).decode("ascii", "replace")
    except OSError:
        return f"inode {number}"
