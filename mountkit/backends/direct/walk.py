"""The files below a directory, listed by a process that may be given up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.errors import MountUnavailableError
from mountkit.formatting import printable
from mountkit.linux import helper

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).with_name("walk_child.py")
FIELDS = 6


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it is now.

    ``path`` is relative to the top, ``size`` in bytes; ``changed``, and ``folder_changed`` of its
    directory, in nanoseconds since the epoch, by the clock of the file system. No program can set
    ``changed`` back, as it can the time of a file's content.
    """

    path: str
    link: bool
    size: int
    changed: int
    inode: int
    folder_changed: int

    @property
    def stamp(self) -> tuple[int, int, int]:
        """What changes whenever anybody writes it."""
        return self.size, self.changed, self.inode


def walk(top: str, below: str, silence: float) -> tuple[Found, ...]:
    """All files below a directory of ``top``, by path.

    Raises MountUnavailableError if the file system says nothing for ``silence`` seconds, or
    refuses.
    """
    try:
        out = b"".join(helper.stream([str(SCRIPT), top, below], silence))
    except (helper.HelperFailedError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise MountUnavailableError(
            f"The files in {printable(top)} cannot be listed: {printable(why or str(error))}.",
            hint=f"See whether its disk is there, and answers: timeout 10 ls -ld {top}",
        ) from error
    return tuple(sorted(_read(out), key=lambda found: found.path))


def _read(out: bytes) -> Iterator[Found]:
    words = out.split(b"\0")
    for at in range(0, len(words) - 1, FIELDS):
        path, kind, *numbers = words[at : at + FIELDS]
        size, changed, inode, folder = map(int, numbers)
        yield Found(os.fsdecode(path), kind == b"l", size, changed, inode, folder)
