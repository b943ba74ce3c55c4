"""What mounting needs of this machine."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from mountkit.doctor import disk_space
from mountkit.doctor.disk_space import Disk
from mountkit.doctor.findings import UNAVAILABLE, Finding
from mountkit.errors import MountUnavailableError
from mountkit.linux import fusermount
from mountkit.linux.unanswered import within

if TYPE_CHECKING:
    from pathlib import Path

    from mountkit.backends.base import Backend

DISK_SECONDS = 5.0
CONTAINER = "--device /dev/fuse --cap-add SYS_ADMIN"


def examine(
    backend: Backend, search_path: str, cache_root: Path, checkpoint: int | None
) -> tuple[Finding, ...]:
    """Look at the program, the device, fusermount3, and the disk files wait on.

    ``backend``: What to mount with. ``search_path``: Where programs are looked for. ``cache_root``:
    The directory that files wait in; it need not exist. ``checkpoint``: Bytes of the largest
    checkpoint; None if nobody said.
    """
    return (
        _binary(backend, search_path),
        _device(fusermount.FUSE_DEVICE),
        _fusermount(search_path),
        disk_space.judge(look_at_disk(cache_root), backend.name, checkpoint),
    )


def _binary(backend: Backend, search_path: str) -> Finding:
    try:
        binary = backend.binary(search_path)
    except MountUnavailableError as error:
        return Finding.of("binary", f"{backend.name} program", error)
    detail = f"{binary.version_text}, {binary.path}"
    return Finding("binary", f"{backend.name} program", "ok", detail)


def _device(device: Path) -> Finding:
    """Opened and not only looked at: a container's rules about devices show only then."""
    name, title = "device", str(device)
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        detail = f"{device} is missing: this machine or container has no FUSE."
        hint = f"Load it: modprobe fuse; in a container: {CONTAINER}"
    except OSError as error:
        detail = f"{device} may not be opened: {error.strerror}."
        hint = f"Open it to everybody (chmod 666 {device}); in a container: {CONTAINER}"
    else:
        return Finding(name, title, "ok", "can be read and written")
    return Finding(name, title, "failed", detail, hint, UNAVAILABLE)


def _fusermount(search_path: str) -> Finding:
    name, title = "fusermount", "fusermount3"
    path = shutil.which("fusermount3", path=search_path)
    if path is not None:
        return Finding(name, title, "ok", path)
    hint = "Install it: apt-get install fuse3"
    return Finding(name, title, "failed", "There is no fusermount3 on PATH.", hint, UNAVAILABLE)


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
