"""Make a mount: what an earlier one left is taken over, or refused, and never passed over."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.backends.base import CacheLostError
from mountkit.config.environment import search_path
from mountkit.errors import ConfigurationError, MountUnavailableError
from mountkit.events import Observer, Problem
from mountkit.formatting import printable
from mountkit.linux.fusermount import fusermount, unmount
from mountkit.linux.process import ProcessIdentity
from mountkit.linux.signals import held_back
from mountkit.names import top_of
from mountkit.state import upload_tag
from mountkit.state.record import FAILED, MOUNTING, SERVING, MountRecord, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mountkit.mounts.inventory import Inventory
    from mountkit.mounts.mounting import Mounting
    from mountkit.spec import MountSpec
    from mountkit.state.bypassed_files import BypassedFile
    from mountkit.state.registry import State


# In the record of a mount that was left in place: whoever finds it may take it over.
NOBODY = ProcessIdentity(0, 0, "")

# A daemon refuses a directory that is not empty.
TRIES = 5


def mount_anew(
    mounter: Mounting,
    earlier: MountRecord | None,
    found: Inventory,
    timeout: float,
    observer: Observer,
) -> MountRecord:
    """Make the target ready, start the daemon, and write down that it serves."""
    directory = mounter.directory
    mounter.device = earlier.device if earlier else None
    mounter.clear_target(earlier.daemon if earlier else None)
    before = directory.unfinished()
    takes_over = directory.begin()
    upload_tag.begin(directory, Path(mounter.spec.cache_dir))
    quarantine = mounter.reconcile_leftovers(found)
    if found.outdated:
        observer(
            Problem(
                f"What an earlier run left for its upload is older than what the store has, "
                f"{printable(found.outdated[0])} for one of {len(found.outdated)} files; it is "
                f"kept in {quarantine}"
            )
        )
    began = time.time()
    try:
        adopted = _adopted(mounter, found.unproven, before) if takes_over else _waiting(mounter)
    except CacheLostError:
        # This says it, once: another try has to get on.
        if not mounter.backend.mounts:
            directory.begin_elsewhere()
        raise
    record = MountRecord(
        mounter.spec,
        MOUNTING,
        now(),
        ProcessIdentity.mine(),
        began=began,
        adopted=adopted,
        # What a run has lost that never came to the end of its drain, this one has to name.
        strays_before=before.strays_before if before is not None else (),
        # What was being saved when that mount ended, however it did, is torn.
        lost=(*before.lost, began) if before is not None else (),
        unproven_before=found.unproven,
        unproven=before.unproven if before is not None else (),
        # By a clock that may have been set back since.
        named=min(before.named, began) if before is not None else 0.0,
        store_began=found.store_time,
        covered=before.covered if before is not None else "",
    )
    directory.write(record)

    def seen() -> None:
        nonlocal record
        daemon = mounter.daemon
        identity = daemon.identity if daemon else None
        record = replace(record, daemon=identity, device=mounter.device)
        directory.write(record)

    try:
        _start(mounter, timeout, seen, tries=TRIES if takes_over else 1)
        torn = _known_to_be_torn(mounter.torn, before)
        record = record.change(SERVING, strays_before=(*record.strays_before, *torn))
        directory.write(record)
    except BaseException:
        # Nobody would look after a daemon that this process gives up.
        with held_back():
            mounter.kill()
            directory.clear(unproven=takes_over)
            if before is not None:
                # Nothing was written meanwhile, and what that one has named is named. What was set
                # aside for this start is not found again by the next.
                torn = _known_to_be_torn(mounter.torn, before)
                strays = (*before.strays_before, *torn)
                kept = replace(before, adopted=adopted, lost=record.lost, strays_before=strays)
                directory.write_unproven(kept)
        raise
    return record


def abandon(mounter: Mounting) -> None:
    """The mount that this process has just made, or taken over, is not wanted any more after all.

    One that served before stays as it was, for whoever takes it over next. Nothing is done where
    ``mount_anew`` has cleaned up itself.
    """
    record = mounter.directory.read()
    if record is None or record.supervisor != ProcessIdentity.mine():
        return
    if mounter.daemon is None and record.state != MOUNTING:
        # An earlier mount of this process, which failed.
        return
    with held_back():
        if mounter.adopted:
            mounter.directory.write(replace(record, supervisor=NOBODY))
            return
        mounter.kill()
        # Somebody may have written through it already.
        mounter.directory.clear(unproven=True)


def _start(mounter: Mounting, timeout: float, seen: Callable[[], None], *, tries: int) -> None:
    """Start the daemon; again if somebody writes to the bare directory, as a training may."""
    try:
        mounter.start(timeout, seen)
    except MountUnavailableError:
        if tries == 1 or not mounter.quarantine_bypassed():
            raise
        _start(mounter, timeout, seen, tries=tries - 1)


def _waiting(mounter: Mounting) -> tuple[str, ...]:
    return tuple(file.path for file in mounter.control.files() if file.dirty)


def _adopted(
    mounter: Mounting, unproven: Iterable[str], before: MountRecord | None
) -> tuple[str, ...]:
    """What an earlier mount, which did not come to its end, wrote, and nobody has proven.

    ``unproven`` has the checkpoints in the store without a manifest: their files are adopted even
    where they were uploaded, and so are those that the last drain could not prove, and, where it
    never came to a drain, all that belong to no checkpoint.
    """
    folders = tuple(f"{name}/" for name in unproven)
    # A mount that failed before its drain has passed on nothing of what it had adopted itself.
    named = frozenset((*before.unproven, *before.adopted) if before else ())
    killed = before is not None and before.cut_off
    return tuple(
        file.path
        for file in mounter.control.files()
        if file.dirty
        or not mounter.backend.write_back
        or file.path.startswith(folders)
        or file.path in named
        or (killed and not top_of(file.path))
    )


def _known_to_be_torn(
    torn: Iterable[BypassedFile], before: MountRecord | None
) -> tuple[tuple[str, str], ...]:
    """Of what a killed daemon had not written to its end, what need not be named.

    That is what belongs to a checkpoint, which then is not finished, and is saved again. What an
    earlier run has promised to upload, or nobody saves again, is lost.
    """
    promised = frozenset((*before.unproven, *before.adopted) if before else ())
    return tuple(
        each.occurrence for each in torn if top_of(each.path) and each.path not in promised
    )


def clear_others(spec: MountSpec, known: State) -> None:
    """Dead mounts of ours at the same target, but of another bucket or backend, make way.

    Files of them that still wait for their upload stay in their caches, for when they are mounted
    again. Their records go too: whoever asks for the mount at that target has to find this one.
    """
    for record in known.records():
        if record.spec.target != spec.target:
            continue
        if (record.spec.id, record.spec.backend) == (spec.id, spec.backend):
            continue
        other = backends.load(record.spec.backend)
        entry = other.entry(spec.target)
        mounted = entry is not None and other.matches(entry, record.spec.id, record.device)
        lives = _lives(record, mounted=mounted)
        # Without a daemon it is a disk, and nobody's to take away.
        mounted = mounted and other.mounts
        if lives:
            raise MountUnavailableError(
                f"{record.spec.source.url} is mounted at {spec.target} already.",
                hint=f"Unmount it first: mountkit umount {spec.target}",
            )
        problem = _unmount(spec.target) if mounted else ""
        if problem:
            raise MountUnavailableError(
                f"A dead mount at {spec.target} cannot be taken away: {problem}.",
                hint=f"Try: fusermount3 -u -z {spec.target}",
            )
        if mounted or record.spec.id != spec.id:
            known.directory(record.spec.id).clear(unproven=True)


def _unmount(target: str) -> str:
    return unmount(fusermount(search_path()), target, lazy=True)


def _lives(record: MountRecord, *, mounted: bool) -> bool:
    """Whether it serves, or is about to: a supervisor that is not done mounts it again.

    A daemon unmounts by path when it ends, and would take away what is mounted there by then.
    """
    if record.daemon is not None and record.daemon.alive():
        return True
    return record.supervisor.alive() and (mounted or record.state != FAILED)


def refuse_waiting_in(left: MountRecord | None, spec: MountSpec) -> None:
    """Files that wait in another cache directory would never reach the store (F13)."""
    cache_dir = left.spec.cache_dir if left is not None else spec.cache_dir
    if cache_dir == spec.cache_dir:
        return
    waiting = backends.load(spec.backend).waiting(replace(spec, cache_dir=cache_dir))
    if waiting:
        raise ConfigurationError(
            f"{len(waiting)} files of an earlier run still wait for their upload in {cache_dir}, "
            f"and this one would use {spec.cache_dir}.",
            hint=f"Use --cache-dir {Path(cache_dir).parent} once more: that uploads them.",
        )


def refuse_waiting_elsewhere(spec: MountSpec) -> None:
    """Files that another backend holds for this mount would never reach the store."""
    for name in backends.NAMES:
        if name == spec.backend:
            continue
        waiting = backends.load(name).waiting(spec)
        if waiting:
            raise ConfigurationError(
                f"{len(waiting)} files of an earlier run with {name} still wait for their upload "
                f"in {spec.cache_dir}, {printable(waiting[0])} for one.",
                hint=f"Use --backend {name}, or bring them to the bucket first: mountkit run "
                f"{spec.source.url} {spec.target} --backend {name} -- true",
            )


def same_daemon(one: MountSpec, other: MountSpec) -> bool:
    """Whether the daemon of the one does for the other."""
    return replace(one, why="") == replace(other, why="")
