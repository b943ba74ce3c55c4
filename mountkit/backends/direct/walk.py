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
    from collections.abc import Iterator, Sequence

SCRIPT = Path(__file__).with_name("walk_child.py")
FIELDS = 7


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it is now.

    ``path`` is relative to the top, ``size`` in bytes; ``link`` says that it is one, ``out`` that
    it leads out of the top. ``changed``, ``modified`` of its content, and ``folder_changed`` of its
    directory are in nanoseconds since the epoch, by the clock of the file system. No program can
    set ``changed`` back, as it can ``modified``.
    """

    path: str
    link: bool
    out: bool
    size: int
    changed: int
    modified: int
    inode: int
    folder_changed: int

    @property
    def stamp(self) -> tuple[int, int, int]:
        """What changes whenever anybody writes it."""
        return self.size, self.changed, self.inode


@dataclass(frozen=True, slots=True)
class Walked:
    """The ``files``, by path; ``top`` is what the directory itself can be told by."""

    top: tuple[int, int]
    files: tuple[Found, ...]


def walk(top: str, below: str, silence: float) -> Walked:
    """All files below a directory of ``top``.

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
    device, inode, *words = out.split(b"\0")
    files = tuple(sorted(_read(words), key=lambda found: found.path))
    return Walked((int(device), int(inode)), files)


def _read(words: Sequence[bytes]) -> Iterator[Found]:
    for at in range(0, len(words) - 1, FIELDS):
        path, kind, *numbers = words[at : at + FIELDS]
        name, link, out = os.fsdecode(path), kind != b"f", kind == b"o"
        yield Found(name, link, out, *map(int, numbers))
