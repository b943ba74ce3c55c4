"""Symbolic links by their names: in a bucket each is an object whose name ends in a suffix."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path


def shown(path: str, suffix: str) -> str:
    """The name under which the mount shows a link, by its object's; "" if that is no link's."""
    name = path.removesuffix(suffix) if suffix else path
    return name if name != path and not name.endswith("/") else ""


def leaves(target: str, path: str, top: str = "") -> bool:
    """Whether a link at ``path`` leads out of the directory ``top``, both relative to the mount.

    An absolute one does, for it leads elsewhere once the bucket is mounted at another place. So
    does what nobody can tell by its letters: one that goes up after it has gone down.
    """
    if target.startswith("/"):
        return True
    depth = path.count("/") - (top.count("/") + 1 if top else 0)
    parts = [part for part in target.split("/") if part not in {"", "."}]
    down = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    return down > depth or ".." in parts[down:]


def twice(paths: Collection[str], suffix: str) -> Iterator[tuple[str, str]]:
    """What is there both as a file and as a link: the one path and the other."""
    there = frozenset(paths)
    for path in sorted(there):
        name = shown(path, suffix)
        if name and name in there:
            yield name, path


def walk(top: Path, suffix: str) -> tuple[str, ...]:
    """Every file below a directory of a mount, relative to it; a link by its object's name.

    Raises OSError if one cannot be listed.
    """
    found, folders = [], [""]
    while folders:
        folder = folders.pop()
        with os.scandir(top / folder) as entries:
            for entry in entries:
                inside = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink():
                    found.append(f"{inside}{suffix}")
                elif entry.is_dir():
                    folders.append(inside)
                else:
                    found.append(inside)
    return tuple(sorted(found))
