"""A path as the kernel would follow it, found without touching a mount."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.errors import UsageError
from mountkit.linux import helper, mount_table
from mountkit.linux.mount_table import backend_targets, lies_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mountkit.linux.mount_table import MountEntry

REAL = "import os, sys; print(os.path.realpath(sys.argv[1]))"
# As many links as the kernel follows in one path (path_resolution(7)).
MOST_LINKS = 40


def resolve_within(path: str, seconds: float) -> str:
    """An absolute path without links, asked of a file system that may hang: then by its letters."""
    ended = helper.run(["-c", REAL, path], seconds)
    found = os.fsdecode(ended.out).rstrip("\n")
    return found if ended.status == 0 and found else os.path.normpath(path)


def resolve(path: str | Path, table: Iterable[MountEntry] | None = None) -> str:
    """The absolute path without links, as the kernel would follow them.

    What lies in the mount of a backend, and the mount itself, is never touched, for it may hang:
    from there on the path is taken by its letters. ``table`` is the mount table, by default as it
    is now.

    Raises UsageError if it is relative, and the current directory is gone.
    """
    entries = mount_table.read() if table is None else tuple(table)
    untouched = backend_targets(entries)
    # Nothing at which something is mounted is a link.
    mounted = {entry.target for entry in entries}
    done, links = "/", 0
    rest = [*reversed(_absolute(path).split("/"))]
    while rest:
        name = rest.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            done = os.path.dirname(done)  # noqa: PTH120 - of a text
            continue
        here = f"{done.rstrip('/')}/{name}"
        plain = here in mounted or links == MOST_LINKS
        link = "" if plain or any(lies_in(here, one) for one in untouched) else _link(here)
        if not link:
            done = here
            continue
        links += 1
        done = "/" if link.startswith("/") else done
        rest.extend(reversed(link.split("/")))
    return done


def _absolute(path: str | Path) -> str:
    expanded = Path(path).expanduser()
    if expanded.is_absolute():
        return str(expanded)
    try:
        # The kernel knows it without asking the file system.
        return str(Path.cwd() / expanded)
    except FileNotFoundError as error:
        raise UsageError(
            f"{path} is relative, and the current directory is gone.",
            hint="Give the whole path, or change to a directory that is there.",
        ) from error


def _link(path: str) -> str:
    """What a link says; "" for what is none, is not there, or may not be looked at."""
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
