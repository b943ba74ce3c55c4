"""What was written through a mount and is not in its cache any more: nothing can be compared.

rclone drops what it has uploaded when the disk of its cache runs full. What it has not uploaded it
keeps, but somebody else may take that away.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.checkpoints.verification import listing, read_manifest, verify_file
from mountkit.errors import MountUnavailableError, Unproven, VerificationError
from mountkit.names import MANIFEST_NAME, TRAINER_STATE, is_own, is_proof, top_of
from mountkit.proof.upload_waiter import renamed
from mountkit.state import upload_tag
from mountkit.store.base import WORKERS
from mountkit.timing import at_once

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mountkit.backends.base import WrittenFile
    from mountkit.checkpoints.manifest import FileEntry
    from mountkit.mounts.mount import Mount
    from mountkit.store.base import ObjectInfo, Store
    from mountkit.timing import Deadline

REASON = "it left the local cache before anybody proved it"
TAKEN = "it waits for its upload, and the local cache does not have it any more"


def evicted_unproven(
    mount: Mount, store: Store, listed: Sequence[ObjectInfo], known: Iterable[str]
) -> tuple[Unproven, ...]:
    """Whole checkpoints, and single files, that are in the store and not among the ``known``.

    ``listed`` is what the store had when the ``known`` files were looked for. What was written and
    uploaded since is the next look's; what was removed or proven since is not missed.

    Of single files, and of checkpoints further down, those that the daemon uploaded, by the mark
    that it puts on them, since the mount was made, by the store's own clock. What another program
    put there, or another machine that mounts the same place, is not this run's concern.

    Nor is what this run has only renamed: the store copies it, and the copy is young and keeps the
    mark of its source. With the mark of another run it has not one byte that was written in this
    one. A file that this run overwrote, and renamed then, has the mark of this run, and is named
    unless it is known, or has a manifest beside it that was renamed with it and describes it as
    it is. A manifest holds nothing of a program, and whoever reads it compares.

    Raises MountkitError if the store cannot be asked.
    """
    mark = backends.load(mount.spec.backend).mark
    if not mark:
        return ()
    record = mount.last_record()
    before = record.unproven_before if record else ()
    since = record.store_began if record else 0.0
    files = frozenset(known)
    proven = {_place(info): _seconds(info) for info in listed if _name(info) == MANIFEST_NAME}
    left = [
        info
        for info in listed
        if info.path not in files
        and not is_proof(info.path)
        and not is_own(info.path)
        # A manifest says nothing of what was written after it.
        and (not top_of(info.path) or _seconds(info) > proven.get(top_of(info.path), -1.0))
    ]
    passed_over = {"", *before, *map(top_of, files)}
    # Without its state it is what a deletion and an upload left between them.
    states = {info for info in left if _is_state(info) and _place(info) not in passed_over}
    whole = _still_unproven(
        mount,
        store,
        {
            _place(info)
            for info in states
            # Of those with a manifest, nobody has looked which were whole before: the mark tells.
            if "/" not in _place(info) and _place(info) not in proven
        },
    )
    young = [info for info in left if _seconds(info) > since and top_of(info.path) not in whole]
    ours = _marked(store, young, mark, upload_tag.value(mount.directory.path, mount.spec.id))
    ours = _not_moved_with_proof(store, listed, ours)
    whole.update(_place(info) for info in ours if info in states)
    return (
        *(Unproven(top, 0, REASON) for top in sorted(whole)),
        *(
            Unproven(info.path, info.size, REASON)
            for info in ours
            if top_of(info.path) not in whole
        ),
    )


def missing_from_cache(
    mount: Mount, known: Iterable[str], deadline: Deadline
) -> tuple[Unproven, ...]:
    """What the daemon has in its queue and not in its cache, which is all that is looked at.

    The queue may object, and is never a proof. To be asked before anything else has it upload:
    what rclone does not find then it drops from its queue.
    """
    if not backends.load(mount.spec.backend).write_back:
        return ()
    control = mount.control(deadline)
    try:
        # What was known before may have been uploaded, removed or renamed since.
        waiting = set(control.flush_uploads().waiting).difference(known)
    except MountUnavailableError:
        # Without a daemon there is no queue: what waits is what the cache has.
        return ()
    gone = waiting.difference(file.path for file in control.files()) if waiting else waiting
    # rclone may hear of a close after the removal that followed, and queue what is not there. Of a
    # name that it has made another of, the mount cannot be asked.
    shown = [path for path in sorted(gone) if not renamed(path, mount.spec.backend)]
    if shown:
        gone -= mount.missing(shown, deadline)
    return tuple(Unproven(path, 0, TAKEN) for path in sorted(gone) if not is_own(path))


def removed_since_proven(
    mount: Mount, store: Store, top: str, members: Sequence[WrittenFile], began: float
) -> set[str]:
    """Those of a checkpoint that a run before ``began`` proved, and that somebody removed since.

    As a retention does, or ``mountkit prune``: the manifest went, and files after it.

    Raises MountkitError if the store cannot be asked.
    """
    at = min(mount.directory.proof_stats.read().proven_at.get(top, 0.0), began)
    old = [file.path for file in members if not file.dirty and file.modified < at]
    there = listing(store, top) if old else {}
    if MANIFEST_NAME in there:
        return set()
    return {path for path in old if path[len(top) + 1 :] not in there}


def told_and_gone(mount: Mount, store: Store, files: Iterable[WrittenFile]) -> tuple[str, ...]:
    """What was uploaded, was proven or named by an earlier run, and is not in the bucket any more.

    Somebody removed it there. Where no copy waits on this machine nobody can bring it back, and to
    name it once more in each run that follows would mend nothing.

    Raises MountkitError if the store cannot be asked.
    """
    record, backend = mount.last_record(), backends.load(mount.spec.backend)
    if record is None or backend.write_back or not backend.mounts:
        return ()
    told = [each.path for each in files if not each.dirty and each.modified < record.told_until]
    found = store.stat_many(told) if told else {}
    return tuple(path for path in told if found[path] is None)


def _marked(
    store: Store, objects: Sequence[ObjectInfo], mark: str, value: str
) -> tuple[ObjectInfo, ...]:
    """Those that carry the mark of this run: other things beside an object, others note too."""
    if not objects:
        return ()
    found = store.stat_many(info.path for info in objects)
    return tuple(
        info
        for info in objects
        if (told := found[info.path]) is not None and told.metadata.get(mark) == value
    )


def _not_moved_with_proof(
    store: Store, listed: Sequence[ObjectInfo], objects: Sequence[ObjectInfo]
) -> tuple[ObjectInfo, ...]:
    """Those that no manifest in a directory above them describes as they are.

    A checkpoint that this run proved, and that somebody renamed then, has its manifest with it.
    """
    manifests = {_place(info) for info in listed if _name(info) == MANIFEST_NAME}

    @functools.cache
    def entries(place: str) -> Mapping[str, FileEntry]:
        try:
            found = read_manifest(store, place)
        except VerificationError:
            return {}
        return {} if found is None else {entry.path: entry for entry in found.files}

    def proven(info: ObjectInfo) -> bool:
        place = _place(info)
        while place and place not in manifests:
            place = place.rpartition("/")[0]
        entry = entries(place).get(info.path[len(place) + 1 :]) if place else None
        return entry is not None and verify_file(store, place, entry, info).ok

    with at_once(WORKERS, "verify") as pool:
        kept = pool.map(lambda info: not proven(info), objects)
        return tuple(info for info, named in zip(objects, kept, strict=True) if named)


def _still_unproven(mount: Mount, store: Store, tops: Iterable[str]) -> set[str]:
    """Those that have their state, and no manifest, by now as well, and are not another machine's.

    A state without a mark may be anybody's: not every store keeps what is noted beside an object.
    """
    mark = backends.load(mount.spec.backend).mark
    names = {top: (f"{top}/{TRAINER_STATE}", f"{top}/{MANIFEST_NAME}") for top in sorted(tops)}
    if not names:
        return set()
    found = store.stat_many(path for pair in names.values() for path in pair)
    return {
        top
        for top, (state, manifest) in names.items()
        if (told := found[state]) is not None
        and found[manifest] is None
        and not upload_tag.is_foreign(told.metadata.get(mark, ""), mount.spec, mount.directory.path)
    }


def _is_state(info: ObjectInfo) -> bool:
    return _name(info) == TRAINER_STATE and _place(info) == top_of(info.path)


def _place(info: ObjectInfo) -> str:
    return info.path.rpartition("/")[0]


def _name(info: ObjectInfo) -> str:
    return info.path.rpartition("/")[2]


def _seconds(info: ObjectInfo) -> float:
    return info.modified.timestamp()
