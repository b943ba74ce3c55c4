"""Whether all of a file was written, or the file system only shows zeros for a part of it."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOCK_BYTES = 512
TRIAL_BYTES = 1 << 20
UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def has_hole(
    path: Path,
    scratch: Path,
    *,
    lseek: Callable[[int, int, int], int] = os.lseek,
    fstat: Callable[[int], os.stat_result] = os.fstat,
) -> bool:
    """Whether a part of a file was never written; True where the file system cannot tell.

    A file may take fewer blocks than it has bytes because a file system, such as ZFS, compresses
    it. So blocks are only counted on a file system that does not tell where a hole is.

    ``path``: The file. ``scratch``: A directory on the same file system, in which a nameless file
    may be made. ``lseek``, ``fstat``: The system calls of these names.

    Raises OSError if the file cannot be opened, or not be asked.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        status = fstat(descriptor)
        first = _first_hole(descriptor, lseek)
    finally:
        os.close(descriptor)
    if first is not None and first < status.st_size:
        return True
    if status.st_blocks * BLOCK_BYTES >= status.st_size:
        return False
    return first is None or not _tells_of_holes(scratch, lseek)


def _first_hole(descriptor: int, lseek: Callable[[int, int, int], int]) -> int | None:
    """Where the first hole is; the size of the file if there is none, None if nobody can tell."""
    try:
        return lseek(descriptor, 0, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            # It has no byte to begin at.
            return 0
        if error.errno in UNSUPPORTED:
            return None
        raise


def _tells_of_holes(scratch: Path, lseek: Callable[[int, int, int], int]) -> bool:
    """Whether a file that is all hole is told for one: many file systems call all of it data."""
    try:
        with tempfile.TemporaryFile(dir=scratch) as stream:
            stream.truncate(TRIAL_BYTES)
            return _first_hole(stream.fileno(), lseek) == 0
    except OSError:
        # It cannot be tried, so the count of the blocks stands.
        return False
