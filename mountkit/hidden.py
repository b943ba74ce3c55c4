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

    from mountkit.deadline import Deadline
    from mountkit.handle import Mount
    from mountkit.store import Store

REASON = (
    "a program removed or moved it through the mount, and the store still has an older object of "
    "that name; remove it once more"
)


def hidden(
    mount: Mount, store: Store, known: Iterable[str], deadline: Deadline
) -> tuple[Unproven, ...]:
    """Objects from before this mount that it does not show, and shows when it has read them anew.

    What another program has put there since is younger, and no concern of this run. What the mount
    still does not show then has a name that it cannot show.

    Raises
    ------
    MountkitError
        If the store cannot be asked, or rclone does not answer.
    """
    record = mount.last_record()
    if record is None or not backends.load(mount.spec.backend).caches:
        return ()
    files = frozenset(known)
    older = {
        info.path: info.size
        for info in store.list()
        if info.path not in files
        and info.modified.timestamp() < record.store_began
        and not is_trial(info.path)
        and not renamed(info.path, mount.spec.backend)
    }
    missed = mount.missing(sorted(older), deadline) if older else frozenset()
    if not missed:
        return ()
    control = mount.control(deadline)
    for directory in sorted({path.rpartition("/")[0] for path in missed}):
        control.refresh(directory)
    shown = missed - mount.missing(sorted(missed), deadline)
    return tuple(Unproven(path, older[path], REASON) for path in sorted(shown))
