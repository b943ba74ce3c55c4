"""Which file systems outlive a job, by the kernel's mount table. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.linux.mount_table import lies_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mountkit.linux.mount_table import MountEntry

MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
#: Of other FUSE file systems nobody knows whether a sync reaches more than a cache of theirs.
SYNCED_FUSE = frozenset({"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse"})


def refusal(path: str, table: Iterable[MountEntry]) -> str:
    """Why nothing can be proven of what lies at an absolute path without links, or "".

    The root file system is that of the machine or the container, and goes with it. And where
    another one should be mounted, and is not, a path leads to it.
    """
    around = None
    for entry in table:
        # Of several at one place, the last one hides the others.
        if lies_in(path, entry.target) and (around is None or lies_in(entry.target, around.target)):
            around = entry
    if around is None or around.target == "/":
        return (
            "it lies on the root file system, and not on one that is mounted: that goes with this "
            "machine or container, and is where a path leads to whose disk is not mounted"
        )
    if around.fstype in MEMORY:
        return f"{around.target} is in this machine's memory ({around.fstype})"
    if around.fstype.startswith("fuse") and around.fstype not in SYNCED_FUSE:
        return (
            f"nobody knows whether {around.target} ({around.fstype}) has written what it was told "
            "to sync"
        )
    return ""
