"""Which file systems outlive a job, by the kernel's mount table. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mountkit.linux.mount_table import MountEntry

MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
#: Of other FUSE file systems nobody knows whether a sync reaches more than a cache of theirs.
SYNCED_FUSE = frozenset({"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse"})
#: They sync a file only for whoever has it open for writing, and say nothing of that.
SYNCED_FOR_WRITERS = frozenset({"cifs", "smb3"})
#: A volume of Kubernetes that goes with its pod, in the path that is mounted.
WITH_THE_POD = "/kubernetes.io~empty-dir/"


def refusal(mount: int, table: Iterable[MountEntry], *, writable: bool = True) -> str:
    """Why nothing can be proven of what lies on the mount of that id, or "".

    The root file system is that of the machine or the container, and goes with it. And where
    another one should be mounted, and is not, a path leads to it. ``writable`` is whether the file
    could be opened for writing.
    """
    around = next((entry for entry in table if entry.id == mount), None)
    if around is None:
        return "what it lies on is in no mount table"
    if around.target == "/":
        return (
            "it lies on the root file system, and not on one that is mounted: that goes with this "
            "machine or container, and is where a path leads to whose disk is not mounted"
        )
    if around.fstype in MEMORY:
        return f"{around.target} is in this machine's memory ({around.fstype})"
    if WITH_THE_POD in around.root:
        return f"{around.target} is an emptyDir, which goes with its pod"
    if around.fstype.startswith("fuse") and around.fstype not in SYNCED_FUSE:
        return (
            f"nobody knows whether {around.target} ({around.fstype}) has written what it was told "
            "to sync"
        )
    if around.fstype in SYNCED_FOR_WRITERS and not writable:
        return f"{around.target} ({around.fstype}) syncs no file that this user may not write"
    return ""
