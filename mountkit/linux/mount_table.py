"""The kernel's mount table. Reading it never touches a mount, so it never hangs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE = Path("/proc/self/mountinfo")
OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of the table. ``minor`` names the FUSE connection below /sys/fs/fuse.

    ``id`` is what ``/proc/PID/fdinfo`` knows the mount by, ``root`` which directory of the file
    system is mounted.
    """

    target: str
    fstype: str
    source: str
    minor: int
    id: int = field(default=0, compare=False)
    root: str = field(default="/", compare=False)


def _unescape(field: str) -> str:
    # The kernel escapes blanks, newlines, '#' and backslashes only; the rest is UTF-8 as it is.
    return OCTAL.sub(lambda match: chr(int(match.group(1), 8)), field)


def parse(table: str) -> tuple[MountEntry, ...]:
    """Read the text of ``/proc/self/mountinfo``; lines it cannot mean are left out."""
    entries = []
    for line in table.split("\n"):
        left, separator, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if not separator or len(before) < 6 or len(after) < 2:
            continue
        _, _, minor = before[2].partition(":")
        entries.append(
            MountEntry(
                target=_unescape(before[4]),
                fstype=_unescape(after[0]),
                source=_unescape(after[1]),
                minor=int(minor) if minor.isdigit() else -1,
                id=int(before[0]) if before[0].isdigit() else 0,
                root=_unescape(before[3]),
            )
        )
    return tuple(entries)


def read() -> tuple[MountEntry, ...]:
    """The mount table as it is now."""
    return parse(TABLE.read_bytes().decode(errors="surrogateescape"))


def at(target: str) -> MountEntry | None:
    """What is mounted exactly at ``target``, the topmost if several are; None if nothing is."""
    return next((entry for entry in reversed(read()) if entry.target == target), None)


def under(path: str) -> MountEntry | None:
    """What an absolute path without links lies on; None if the table does not say."""
    # The table is in the order of mounting: one further up, mounted later, covers one below it.
    return next((entry for entry in reversed(read()) if lies_in(path, entry.target)), None)


# As what the mounts of the backends show in the mount table.
BACKENDS = re.compile(r"mountkit-.+|mountpoint-s3")


def mount_around(path: str, table: Iterable[MountEntry] | None = None) -> str | None:
    """Where the mount of a backend is that an absolute path is or lies in, by the table alone.

    Not every FUSE mount counts: the root of a container may be one, or a home, and there links and
    settings are meant as anywhere else.
    """
    entries = read() if table is None else table
    around = [target for target in backend_targets(entries) if lies_in(path, target)]
    return max(around, key=len, default=None)


def backend_targets(table: Iterable[MountEntry]) -> tuple[str, ...]:
    """Where the backends have mounted."""
    return tuple(entry.target for entry in table if BACKENDS.fullmatch(entry.source))


def lies_in(path: str, target: str) -> bool:
    """Whether an absolute path is a directory, or lies below it, by its letters."""
    return path == target or path.startswith(f"{target.rstrip('/')}/")
