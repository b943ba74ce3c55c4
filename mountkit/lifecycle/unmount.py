"""Unmount a mount that another process owns, or that lost its owner."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends, timing
from mountkit.config.directories import state_root
from mountkit.config.timeouts import limits
from mountkit.errors import MountkitError, MountUnavailableError, NotDurableError, Unproven
from mountkit.linux import paths
from mountkit.mounts import mounting
from mountkit.mounts.bare_directory import bypassed_files_in
from mountkit.mounts.mount import Mount
from mountkit.mounts.shadowed_files import lying
from mountkit.proof.drain import drain
from mountkit.proof.report import DrainReport, checked_again, not_proven
from mountkit.state import cache_lock
from mountkit.state.record import FAILED
from mountkit.state.registry import State

if TYPE_CHECKING:
    from mountkit.config.settings import Settings
    from mountkit.events import Observer
    from mountkit.state.record import MountRecord

logger = logging.getLogger("mountkit")

STOP_SECONDS = 60.0
RELEASE_SECONDS = 2.0


def unmount(
    target: str, settings: Settings, observer: Observer, *, discard: bool
) -> DrainReport | None:
    """Drain and unmount what is mounted at ``target``. None if nothing was drained.

    Raises MountUnavailableError if nothing of ours is mounted there, or it does not go away;
    NotDurableError, naming what is not proven to be in the store; the mount stays.
    """
    known = State(state_root(settings))
    record = known.at(paths.resolve(target))
    if record is None:
        raise MountUnavailableError(
            f"Nothing of mountkit is mounted at {target}.", hint="See what is: mountkit status"
        )
    mount = Mount.of(record, known)
    with contextlib.ExitStack() as held:
        watched = record.supervisor.alive()
        if not watched:
            record = _take_over(mount, record, held)
        report = None if discard else _drained(mount, settings, observer)
        if record.supervisor.alive():
            _let_supervisor_stop(mount)
        else:
            if watched:
                # It ended while the mount was drained.
                record, watched = _take_over(mount, record, held), False
            _take_away(mount, record)
        # A training process that owns the mount keeps the cache, and has yet to look at it, and
        # name what it finds.
        owner = watched and not _free(record, held)
        if report is None:
            if not owner:
                _note_told(mount)
            return None
        try:
            report = _looked_again(mount, record, report)
        except NotDurableError as error:
            if not owner and all(problem.path != mount.path for problem in error.unproven):
                _note_told(mount)
            raise
        if not owner:
            mount.control().purge()
    return report


def _free(record: MountRecord, held: contextlib.ExitStack) -> bool:
    """Whether nobody has the cache of a mount any more whose supervisor has ended."""
    try:
        held.callback(cache_lock.acquire(record.spec).release)
    except MountUnavailableError:
        return False
    return True


def _note_told(mount: Mount) -> None:
    try:
        mount.directory.note_told()
    except (OSError, MountkitError) as error:
        # It was named, or given up; only the next mount does not know, and names it once more.
        logger.warning("mountkit: what was named cannot be noted: %s", error)


def _take_over(mount: Mount, record: MountRecord, held: contextlib.ExitStack) -> MountRecord:
    """Keep everybody else from a mount without a supervisor, until it is taken away.

    Raises MountUnavailableError if another process has taken it over, or taken it away.
    """
    held.callback(cache_lock.acquire(record.spec).release)
    now = mount.record()
    if now is None or now.supervisor != record.supervisor:
        raise MountUnavailableError(
            f"Another process has taken over the mount at {mount.path}, or taken it away.",
            hint=f"See what is there: mountkit status {mount.path}",
        )
    return now


def _take_away(mount: Mount, record: MountRecord) -> None:
    mounter = mounting.left(record.spec, backends.load(record.spec.backend), mount.directory)
    mounter.device = record.device
    mounter.unmount(record.daemon)
    mount.directory.clear(unproven=mounter.leaves(record))


def _drained(mount: Mount, settings: Settings, observer: Observer) -> DrainReport:
    report = drain(mount, limits(settings), observer, ended_well=False)
    # What lies below the mount comes to light when it is gone, and is named then; so is a log that
    # lacks lines, which nothing mends.
    below = {str(mount.directory.log), *(each.path for each in lying(mount))}
    if not below.issuperset(problem.path for problem in report.unproven):
        error = not_proven(mount.path, report.unproven)
        raise NotDurableError(
            error.message,
            hint="It stays mounted. See why: mountkit status. "
            f"To give these files up: mountkit umount --discard {mount.path}",
            unproven=report.unproven,
        )
    return report


def _looked_again(mount: Mount, record: MountRecord, report: DrainReport) -> DrainReport:
    """The report, with what was written after the drain, or never reached the mount."""
    report = checked_again(mount, report, record)
    named = {problem.path for problem in report.unproven}
    backend = backends.load(record.spec.backend)
    if backend.mounts and backend.entry(mount.path) is None:
        reason = f"it never reached the mount, and lies on the local disk, in {mount.path}"
        left = sorted(
            (file.path, file.size) for file in bypassed_files_in(Path(mount.path), named=named)
        )
        problems = (Unproven(path, size, reason) for path, size in left)
        report = replace(report, unproven=(*report.unproven, *problems))
    if not report.complete:
        error = not_proven(mount.path, report.unproven)
        waits = f"What waits in {record.spec.cache_dir} is uploaded when it is mounted again"
        if not backend.write_back:
            waits = "Nothing waits on this machine: mount it again, and write these files once more"
        raise NotDurableError(
            f"{error.message}\nThe mount is gone by now.",
            hint=f"{waits}: mountkit mount {record.spec.source.url} {mount.path}",
            unproven=report.unproven,
        )
    return report


def _let_supervisor_stop(mount: Mount) -> None:
    mount.directory.ask_to_stop()

    def ended() -> bool:
        record = mount.record()
        return record is None or record.state == FAILED

    stopped = timing.wait_until(ended, STOP_SECONDS)
    record = mount.record()
    if record is not None and record.state == FAILED:
        raise MountUnavailableError(
            f"{mount.path} could not be unmounted: {record.reason}",
            hint=f"See who uses it: fuser -vm {mount.path}",
        )
    if not stopped:
        # It would take a later mount away.
        mount.directory.forget_stop()
        raise MountUnavailableError(
            f"The supervisor of {mount.path} did not unmount it within {STOP_SECONDS:.0f} s.",
            hint=f"Read its log: less {mount.directory.supervisor_log}",
        )
    # A supervisor in the background gives the cache back at once.
    timing.wait_until(lambda: cache_lock.is_free(mount.spec), RELEASE_SECONDS)
