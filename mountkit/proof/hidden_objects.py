"""Objects that a program removed through the mount, and that the store still has.

rclone removes the object that a file has. A file that was renamed over another one and not uploaded
yet, has none: removing it, or moving it on, leaves the object of the file that it replaced. The
mount does not show it any more, until the directory is read anew (rclone 1.75, ``vfs/file.go``).

Such an object is older than the mount; or the mount itself renamed an older one there, which a
store does by a copy: dated anew, with the mark of the run that uploaded it (S3), or dated as it
was (``rclone serve s3``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.errors import Unproven
from mountkit.names import MANIFEST_NAME, is_own, top_of
from mountkit.proof.upload_waiter import renamed
from mountkit.state import upload_tag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mountkit.mounts.mount import Mount
    from mountkit.store.base import Attestation, ObjectInfo, Store
    from mountkit.timing import Deadline

BEGINNING = datetime.min.replace(tzinfo=UTC)

REASON = (
    "a program removed or moved it through the mount, and the store still has an older object of "
    "that name; remove it once more"
)


def unseen(
    mount: Mount,
    store: Store,
    listed: Iterable[ObjectInfo],
    known: Iterable[str],
    deadline: Deadline,
) -> frozenset[ObjectInfo]:
    """Older objects than this mount that it does not show, as long as it has not read them anew.

    ``listed`` is what the store has.

    To be asked before a proof, which has directories read anew. What another program has put there
    since is younger and has no mark of this cache, and is no concern of this run.

    Raises MountkitError if the store cannot be asked.
    """
    record = mount.last_record()
    if record is None or not backends.load(mount.spec.backend).write_back:
        return frozenset()
    files = frozenset(known)
    left = [
        info
        for info in listed
        if info.path not in files
        and not is_own(info.path)
        and not renamed(info.path, mount.spec.backend)
    ]
    proven = {top_of(info.path): info.modified for info in left if _is_manifest(info)}
    # Stores date objects to the second.
    young = {info.path: info for info in left if info.modified.timestamp() > record.store_began}
    older = {info.path: info for info in left if info.path not in young}
    older.update(
        (path, young[path])
        for path, info in store.stat_many(
            path
            for path, info in young.items()
            # What was proven is where its program wants it.
            if info.modified > proven.get(top_of(path), BEGINNING)
        ).items()
        if _moved_by_us(mount, info)
    )
    gone = mount.missing(sorted(older), deadline) if older else frozenset()
    return frozenset(older[path] for path in gone)


def hidden(
    mount: Mount,
    store: Store,
    unseen: Iterable[ObjectInfo],
    known: Iterable[str],
    deadline: Deadline,
) -> tuple[Unproven, ...]:
    """Of those that it did not show before, the ones that it shows when it reads them anew.

    What the mount still does not show then has a name that it cannot show.

    Raises MountkitError if the store cannot be asked, or rclone does not answer.
    """
    files = frozenset(known)
    left = {(info.path, info.size, info.tag) for info in unseen if info.path not in files}
    found = store.stat_many(sorted({path for path, _, _ in left}))
    there = {
        path: info.size
        for path, info in found.items()
        # Another program may have put another object there meanwhile.
        if info is not None and (path, info.size, info.tag) in left
    }
    if not there:
        return ()
    control = mount.control(deadline)
    for directory in sorted({path.rpartition("/")[0] for path in there}):
        control.invalidate_directory(directory)
    shown = there.keys() - mount.missing(sorted(there), deadline)
    return tuple(Unproven(path, there[path], REASON) for path in sorted(shown))


def _moved_by_us(mount: Mount, info: Attestation | None) -> bool:
    """Whether an object, with its metadata, is an earlier run's upload from this same cache."""
    mark = backends.load(mount.spec.backend).mark
    found = info.metadata.get(mark, "") if info is not None and mark else ""
    directory = mount.directory.path
    return found not in {
        "",
        upload_tag.value(directory, mount.spec.id),
    } and not upload_tag.is_foreign(found, mount.spec, directory)


def _is_manifest(info: ObjectInfo) -> bool:
    return info.path == f"{top_of(info.path)}/{MANIFEST_NAME}"
