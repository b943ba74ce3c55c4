"""Objects that a program removed through the mount, and that the store still has.

rclone removes the object that a file has. A file that was renamed over another one and not uploaded
yet, has none: removing it, or moving it on, leaves the object of the file that it replaced. The
mount does not show it any more, until the directory is read anew (rclone 1.75, ``vfs/file.go``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.errors import Unproven
from mountkit.names import is_own
from mountkit.proof.upload_waiter import renamed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from mountkit.mounts.mount import Mount
    from mountkit.store.base import ObjectInfo, Store
    from mountkit.timing import Deadline

REASON = (
    "a program removed or moved it through the mount, and the store still has an older object of "
    "that name; remove it once more"
)


def unseen(
    mount: Mount, listed: Iterable[ObjectInfo], known: Iterable[str], deadline: Deadline
) -> frozenset[str]:
    """Objects from before this mount that it does not show, as long as it has not read them anew.

    ``listed`` is what the store has.

    To be asked before a proof, which has directories read anew. What another program has put there
    since is younger, and no concern of this run.
    """
    record = mount.last_record()
    if record is None or not backends.load(mount.spec.backend).write_back:
        return frozenset()
    files = frozenset(known)
    older = sorted(
        info.path
        for info in listed
        if info.path not in files
        and _from_before(info.modified, record.store_began)
        and not is_own(info.path)
        and not renamed(info.path, mount.spec.backend)
    )
    return mount.missing(older, deadline) if older else frozenset()


def hidden(
    mount: Mount, store: Store, paths: Iterable[str], known: Iterable[str], deadline: Deadline
) -> tuple[Unproven, ...]:
    """Of the ``paths``, which it did not show before, those that it shows when it reads them anew.

    What the mount still does not show then has a name that it cannot show.

    Raises
    ------
    MountkitError
        If the store cannot be asked, or rclone does not answer.
    """
    record = mount.last_record()
    left = sorted(set(paths).difference(known))
    if record is None or not left:
        return ()
    found = store.stat_many(left)
    there = {
        path: info
        for path in left
        # Another program may have put another object there meanwhile.
        if (info := found[path]) is not None
        and info.modified is not None
        and _from_before(info.modified, record.store_began)
    }
    if not there:
        return ()
    control = mount.control(deadline)
    for directory in sorted({path.rpartition("/")[0] for path in there}):
        control.invalidate_directory(directory)
    shown = there.keys() - mount.missing(sorted(there), deadline)
    return tuple(Unproven(path, there[path].size, REASON) for path in sorted(shown))


def _from_before(modified: datetime, store_began: float) -> bool:
    """Whether an object may be older than the mount; stores date objects to the second."""
    return modified.timestamp() <= store_began
