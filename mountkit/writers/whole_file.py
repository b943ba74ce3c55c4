"""A file of a mount gets a new content, from its start to its end: every backend takes that."""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING, BinaryIO, cast

from mountkit import backends
from mountkit.writers.hooks import in_table, place_of, target_of

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mountkit.mounts.mount import Mount

CHUNK_BYTES = 1024 * 1024


def copy_into(mount: Mount, source: Path, path: Path) -> None:
    """Write what a local file holds to ``path``, in place of what is there.

    Nothing is appended and nothing renamed. On a mount for sequential writes the bytes are in the
    store when this returns.

    ``path`` lies below the mount; directories that are missing are made.

    Raises OSError if nothing is mounted, or the file cannot be written.
    """
    if backends.load(mount.spec.backend).mounts and not in_table(mount.path):
        # Below the target lies somebody's disk, from which nothing would be uploaded.
        raise OSError(errno.ENOTCONN, "Nothing is mounted right now", mount.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as content, _opened(mount, path) as file:
        shutil.copyfileobj(content, file, CHUNK_BYTES)


def _opened(mount: Mount, path: Path) -> AbstractContextManager[BinaryIO]:
    if "rename" not in backends.load(mount.spec.backend).unsupported_operations:
        return path.open("wb")
    target = target_of([place_of(mount)], path)
    if target is None:
        raise OSError(errno.EXDEV, f"It leads out of the mount at {mount.path}", str(path))
    # It has write() alone, which is all that is called.
    return cast("AbstractContextManager[BinaryIO]", target.open())
