"""What mounting needs of this machine."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from mountkit.doctor import disk_space
from mountkit.doctor.disk_space import Disk
from mountkit.doctor.findings import Finding
from mountkit.errors import MountUnavailableError
from mountkit.linux import fusermount
from mountkit.linux.unanswered import within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mountkit.backends.base import Backend

DISK_SECONDS = 5.0


def examine(
    backend: Backend, search_path: str, cache_root: Path, checkpoint: int | None
) -> tuple[Finding, ...]:
    """Look at the program, the device, fusermount3, and the disk files wait on.

    ``backend``: What to mount with. ``search_path``: Where programs are looked for. ``cache_root``:
    The directory that files wait in; it need not exist. ``checkpoint``: Bytes of the largest
    checkpoint; None if nobody said.
    """
    if not backend.mounts:
        # What it saves to is tried itself.
        return ()
    return (
        _found("binary", f"{backend.name} program", lambda: _version(backend, search_path)),
        _found("device", str(fusermount.FUSE_DEVICE), _opened),
        _found("fusermount", "fusermount3", lambda: fusermount.program(search_path)),
        disk_space.judge(look_at_disk(cache_root), backend.name, checkpoint),
    )


def _found(name: str, title: str, look: Callable[[], str]) -> Finding:
    """What was looked for, if it is there."""
    try:
        return Finding(name, title, "ok", look())
    except MountUnavailableError as error:
        return Finding.of(name, title, error)


def _version(backend: Backend, search_path: str) -> str:
    binary = backend.binary(search_path)
    return f"{binary.version_text}, {binary.path}"


def _opened() -> str:
    fusermount.check_device()
    return "can be read and written"


def look_at_disk(directory: Path) -> Disk:
    """The disk that the directory is on, or will be; bounded, because it may be a dead share."""
    try:
        return within(DISK_SECONDS, lambda: _disk(directory))
    except TimeoutError:
        return Disk(str(directory), 0, f"no answer within {DISK_SECONDS:g} s")


def _disk(directory: Path) -> Disk:
    try:
        place = directory
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            return Disk(str(directory), 0, f"{place} is a file")
        if not os.access(place, os.W_OK | os.X_OK):
            return Disk(str(directory), 0, f"{place} may not be written to")
        return Disk(str(directory), shutil.disk_usage(place).free)
    except OSError as error:
        return Disk(str(directory), 0, error.strerror or type(error).__name__)
