"""Take files out of rclone's cache, one by one, while rclone runs.

rclone has no call for it: what it evicts by itself goes by age or by the room on the disk, and asks
nobody. But it copes where the bytes of a closed, clean file are gone (the same in 1.68 to 1.75): a
reader is served from the store (``vfs/file.go``, ``Open``), a writer fetches the file anew
(``vfs/vfscache/item.go``, ``_truncate``: "detected external removal of cache file").

It does not cope where they go while it opens the file, or has it open. The kernel tells: it grants
a write lease only while nobody has the file open, and holds up whoever opens it until the lease is
given back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from mountkit.backends.base import WrittenFile
    from mountkit.backends.rclone.cache import RcloneCache

#: Begins the name of a file that is on its way out; one that a killed process left is nobody's.
ASIDE = "evicted."
# rclone opens a file twice in a row, first to see its size. Whoever was between the two when the
# lease was granted has run into it by then.
HOLD_SECONDS = 0.02
TOGETHER = 64


def evict(cache: RcloneCache, files: Iterable[WrittenFile]) -> tuple[str, ...]:
    """Remove the local copies of uploaded files that are still as they were seen.

    Returns the paths of those that stay: somebody has them open, or has written them again.

    Raises
    ------
    OSError
        If the file system of the cache grants no leases, or is ill.
    """
    stay: list[str] = []
    for batch in _batches(sorted(files, key=lambda file: file.path)):
        with contextlib.ExitStack() as held:
            leased = [(file, held.enter_context(_lease(cache.data / file.path))) for file in batch]
            time.sleep(HOLD_SECONDS)
            stay += [
                file.path
                for file, lease in leased
                if lease is None or not _take_out(cache, file, lease)
            ]
    return tuple(stay)


def sweep(cache: RcloneCache) -> None:
    """Remove what a process that was killed meanwhile has left aside; only while none evicts."""
    for left in cache.top.glob(f"{ASIDE}*"):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def _lease(path: Path) -> Iterator[int | None]:
    """A write lease on a file, by its descriptor; None where it is open or gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        # Told by a signal that is ignored by default, and not by SIGIO, which ends a process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except BlockingIOError:
            yield None
            return
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, 0)
        yield descriptor
    finally:
        # Gives the lease back, too.
        os.close(descriptor)


def _undisturbed(descriptor: int) -> bool:
    """Whether nobody is held up by the lease."""
    return fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_WRLCK


def _take_out(cache: RcloneCache, file: WrittenFile, lease: int) -> bool:
    """Remove the bytes and the record of a file; False, with both in place, if it is in use."""
    data, meta = cache.data / file.path, cache.meta / file.path
    now = cache.file(file.path)
    if now is None or now.dirty or now.stamp != file.stamp or not _undisturbed(lease):
        return False
    aside = cache.top / f"{ASIDE}{os.getpid()}.{threading.get_ident()}"
    record = aside.with_name(f"{aside.name}.record")
    # The record first: once the bytes are gone, rclone may write a new one at any time.
    meta.rename(record)
    data.rename(aside)
    removed = os.path.samestat(aside.stat(), os.fstat(lease)) and _undisturbed(lease)
    if not removed:
        for left, place in ((aside, data), (record, meta)):
            # What rclone has written there meanwhile is newer.
            with contextlib.suppress(FileExistsError):
                os.link(left, place)
    aside.unlink()
    record.unlink()
    return removed


def _batches(files: Sequence[WrittenFile]) -> Iterator[Sequence[WrittenFile]]:
    for start in range(0, len(files), TOGETHER):
        yield files[start : start + TOGETHER]
