"""Objects that a program removed through the mount, and that the store still has.

rclone removes the object that a file has. A file that was renamed over another one and not uploaded
yet, has none: removing it, or moving it on, leaves the object of the file that it replaced. The
mount does not show it any more, until the directory is read anew (rclone 1.75, ``vfs/file.go``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.spec import Unproven, is_trial
from mountkit.uploads import renamed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mountkit.attestation import Attestation
    from mountkit.deadline import Deadline
    from mountkit.handle import Mount
    from mountkit.store import Store

REASON = (
    "a program removed or moved it through the mount, and the store still has an older object of "
    "that name; remove it once more"
)
# Where rclone notes when a file was written, in seconds since the epoch.
WRITTEN = "mtime"


def unseen(mount: Mount, store: Store, known: Iterable[str], deadline: Deadline) -> frozenset[str]:
    """Objects from before this mount that it does not show, as long as it has not read them anew.

    To be asked before a proof, which has directories read anew. What another program has put there
    since is no concern of this run: it is younger, or was written later.

    Raises
    ------
    MountkitError
        If the store cannot be asked.
    """
    record = mount.last_record()
    if record is None or not backends.load(mount.spec.backend).caches:
        return frozenset()
    files = frozenset(known)
    # Stores date objects to the second.
    old = {
        info.path: info.modified.timestamp() <= record.store_began
        for info in store.list()
        if info.path not in files
        and not is_trial(info.path)
        and not renamed(info.path, mount.spec.backend)
    }
    missed = mount.missing(sorted(old), deadline) if old else frozenset()
    younger = sorted(path for path in missed if not old[path])
    found = store.attest_many(younger) if younger else {}
    return missed.difference(
        path
        for path in younger
        if (told := found[path]) is None or not _copied(mount, told, record.began)
    )


def _copied(mount: Mount, told: Attestation, began: float) -> bool:
    """Whether a mount like this one wrote it before ``began``; its folder was renamed since.

    The store copies what is below a folder that is renamed, also what the mount does not show.
    """
    mark = told.metadata.get(backends.load(mount.spec.backend).mark, "")
    ours = mark.partition("-")[0] == mount.spec.id
    try:
        return ours and float(told.metadata.get(WRITTEN, "")) < began
    except ValueError:
        return False


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
    left = sorted(set(paths).difference(known))
    if not left:
        return ()
    found = store.attest_many(left)
    there = {path: info for path in left if (info := found[path]) is not None}
    if not there:
        return ()
    control = mount.control(deadline)
    for directory in sorted({path.rpartition("/")[0] for path in there}):
        control.refresh(directory)
    shown = there.keys() - mount.missing(sorted(there), deadline)
    return tuple(Unproven(path, there[path].size, REASON) for path in sorted(shown))
