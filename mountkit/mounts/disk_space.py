"""Whether the disk of the local cache has room for one more checkpoint (F15)."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.errors import MountUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mountkit.backends.base import WrittenFile
    from mountkit.mounts.mount import Mount


def shortage(mount: Mount, name: str, size: int) -> str:
    """What to tell before a checkpoint of ``size`` bytes is saved; "" if it fits, by what is known.

    What has been uploaded makes room when the daemon needs it; what waits does not.
    """
    if not size or not backends.load(mount.spec.backend).write_back:
        return ""
    place = mount.spec.cache_dir
    try:
        room = available(shutil.disk_usage(place).free, mount.control().files())
    except (MountUnavailableError, OSError) as error:
        return f"Whether {name} fits on the disk of {place} is not known: {error}"
    if room >= size:
        return ""
    return (
        f"{name} may not fit on the disk of {place}: the one before it took {size / 1e6:,.0f} MB, "
        f"and there is room for {room / 1e6:,.0f} MB. Free some, or end the run and use another "
        "disk with --cache-dir"
    )


def available(free: int, files: Iterable[WrittenFile]) -> int:
    """The bytes that a save can use, of a disk and the files that are in the cache on it."""
    return free + sum(file.size for file in files if not file.dirty)
