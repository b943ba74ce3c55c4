"""Own a mount from the first check to the last byte: the one way in which everything mounts."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.config import directories, timeouts
from mountkit.errors import MountkitError, MountUnavailableError, Unproven
from mountkit.events import Observer, silent
from mountkit.lifecycle import leases
from mountkit.lifecycle.fenced import fenced_report
from mountkit.lifecycle.open import (
    NOBODY,
    abandon,
    clear_others,
    mount_anew,
    refuse_waiting_elsewhere,
    refuse_waiting_in,
    same_daemon,
)
from mountkit.linux.process import ProcessIdentity
from mountkit.linux.signals import held_back
from mountkit.mounts.inventory import Inventory, take_inventory
from mountkit.mounts.mount import Mount
from mountkit.mounts.mounting import Mounting, mounting
from mountkit.proof.drain import drain
from mountkit.proof.report import DrainReport, checked_again
from mountkit.state import cache_lock
from mountkit.state.record import FAILED, SERVING
from mountkit.state.registry import State
from mountkit.supervision import health
from mountkit.supervision.lease_keeper import NoLease
from mountkit.supervision.supervisor import Supervisor
from mountkit.timing import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from filelock import FileLock

    from mountkit.checkpoints.lease import Holder
    from mountkit.config.settings import Settings
    from mountkit.monitoring.endpoint import Endpoint
    from mountkit.spec import MountSpec
    from mountkit.state.record import MountRecord
    from mountkit.supervision.lease_keeper import Keeping


# For the thread of a supervisor whose mount was taken away meanwhile.
UNMOUNTED_SECONDS = 10.0

logger = logging.getLogger("mountkit")


class Session:
    """A mount that this process owns and supervises."""

    def __init__(
        self,
        mount: Mount,
        mounter: Mounting,
        supervisor: Supervisor,
        lock: FileLock,
        limits: timeouts.Limits,
        endpoint: Endpoint | None,
        drain: Callable[..., DrainReport] = drain,
        lease: Keeping | None = None,
    ) -> None:
        self.mount = mount
        self.supervisor = supervisor
        self._mounter = mounter
        self._lock = lock
        self._limits = limits
        self._endpoint = endpoint
        self._drain = drain
        self._lease = lease or NoLease()

    @classmethod
    def open(
        cls,
        spec: MountSpec,
        settings: Settings,
        observer: Observer = silent,
        keep: Callable[[Session], object] = lambda _: None,
        *,
        look: Callable[..., Inventory] = take_inventory,
        holder: Callable[[MountSpec], Holder | None] = leases.mine,
    ) -> Session:
        """Check everything, mount, and start to supervise. Returns when the mount serves.

        ``keep`` is given the session as soon as there is one to close. A signal's exception that
        comes between this and the caller's own ``try`` then leaves nothing behind. ``holder`` names
        who takes the run's lease, None where nobody does.

        Raises
        ------
        MountUnavailableError
            A tool is missing, the target is in use, the store or the daemon cannot be had.
        PermissionDeniedError, ConfigurationError
            The store refused the credentials, or has no such bucket.
        """
        known = State(directories.state_root(settings))
        directory = known.directory(spec.id)
        mounter = mounting(spec, backends.load(spec.backend), directory)
        mount = Mount(spec, directory)
        with contextlib.ExitStack() as undo:
            lock = cache_lock.acquire(spec)
            undo.callback(lock.release)
            # Only now: whoever had the cache until then may have written, proven and removed.
            refuse_waiting_elsewhere(spec)
            found = leases.look(mount, look, holder(spec), observer)
            lease = leases.keep(mount, found.lease, observer)
            undo.callback(lease.release)
            cache_lock.sign(spec)
            endpoint = _endpoint(settings, mount, observer)
            if endpoint is not None:
                undo.callback(endpoint.close)
            undo.callback(mounter.release)
            undo.callback(abandon, mounter)
            clear_others(spec, known)
            earlier = directory.read()
            refuse_waiting_in(directory.unfinished(), spec)
            same = earlier is not None and same_daemon(earlier.spec, spec)
            if earlier is not None and same and mounter.take_over(earlier):
                record = replace(earlier, supervisor=ProcessIdentity.mine(), state=SERVING)
                directory.forget_stop()
                directory.write(record)
            else:
                record = mount_anew(mounter, earlier, found, settings.mount_timeout, observer)
            supervisor = Supervisor(
                mounter,
                record,
                attempts=settings.remount_attempts,
                mount_timeout=settings.mount_timeout,
                limits=health.health_limits(settings),
                observer=observer if endpoint is None else endpoint.counting(observer),
            )
            limits = timeouts.limits(settings)
            session = cls(mount, mounter, supervisor, lock, limits, endpoint, lease=lease)
            with held_back():
                supervisor.start()
                lease.guard(supervisor.fence)
                if endpoint is not None:
                    endpoint.watch(supervisor)
                undo.pop_all()
                keep(session)
        return session

    def finish(
        self,
        observer: Observer = silent,
        *,
        ended_well: bool,
        deadline: Deadline | None = None,
        draining: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        drained: Callable[[DrainReport], None] = lambda _: None,
        heard: bool = True,
    ) -> DrainReport:
        """Drain, unmount and let go; what the report names is not proven to be in the store.

        ``ended_well`` as for :func:`mountkit.proof.drain.drain`. By ``deadline`` the drain is over.
        ``draining`` is entered for as long as it may be cut short, which the unmount may not.
        ``drained`` is told what the drain found, before the unmount: that may outlast the grace.
        ``heard``: Whether somebody hears what is named; whoever comes next names the rest again.
        """
        over = Deadline(within=deadline)
        limits = self._limits.until(over)
        self._lease.bound(over)
        try:
            # Moved they are once nothing is mounted any more: that may take its time.
            beside = self._beside(self._mounter.record_bypassed)
            with draining():
                report = self._drained(limits, observer, ended_well=ended_well)
            if self.mount.record() is None and not self.supervisor.stopped:
                lost = f"{self.mount.directory.path} is gone, which told what was written"
                unknown = Unproven(self.mount.path, 0, lost)
                report = replace(report, unproven=(*report.unproven, unknown), whole=False)
            drained(report)
        except BaseException:
            self.close()
            raise
        record = self.mount.last_record()
        self._unmount()
        beside += self._beside(self._mounter.quarantine_bypassed)
        if beside:
            report = replace(report, unproven=(*report.unproven, beside[0]), whole=False)
        report = checked_again(self.mount, report, record)
        if record is not None and not report.complete:
            self._note_unproven(record, report, heard=heard)
        self._release(purge=report.complete, unproven=not report.complete)
        return report

    def _drained(self, limits: timeouts.Limits, observer: Observer, **how: bool) -> DrainReport:
        """What the drain found, or what is left where another writer has the run."""
        if not self._lease.lost:
            report = self._drain(self.mount, limits, observer, **how)
        if self._lease.lost:
            return fenced_report(self.mount, self._lease.lost)
        return report

    def _note_unproven(self, record: MountRecord, report: DrainReport, *, heard: bool) -> None:
        paths = tuple(problem.path for problem in report.unproven)
        # In place of what went elsewhere while it was covered, the mount is named.
        covered = "" if self.mount.path in paths else record.covered
        record = replace(record, unproven=paths, covered=covered)
        try:
            if report.whole and heard:
                record = self.mount.directory.told(record)
            self.mount.directory.write(record)
            if self.mount.path in paths and heard:
                self.mount.directory.forget_lost()
        except OSError as error:
            # They are named to whoever runs this; only the next mount does not know of them.
            logger.warning("mountkit: what is not proven cannot be noted: %s", error)

    def _beside(self, work: Callable[[], object]) -> tuple[Unproven, ...]:
        """What keeps the files that were written beside the mount from being told of."""
        try:
            work()
        except (MountkitError, OSError) as error:
            reason = f"what was written beside the mount is not known: {error}"
            return (Unproven(self.mount.path, 0, reason),)
        return ()

    def close(self) -> None:
        """Unmount and let go without a drain. What was not uploaded stays in the cache."""
        self._unmount()
        left = not self.supervisor.stopped or self._mounter.leaves(self.supervisor.record)
        self._release(purge=False, unproven=left)

    def _unmount(self) -> None:
        try:
            if self._endpoint is not None:
                self._endpoint.close()
            ended = self.supervisor.stop()
            self._mounter.unmount()
            if not ended:
                # Without its mount, what the supervisor waited for may have come to an end.
                self._await_supervisor()
                self._mounter.unmount()
        except BaseException:
            self.supervisor.halt()
            self.supervisor.at_end(self._give_up)
            raise

    def _await_supervisor(self) -> None:
        if not self.supervisor.stop(UNMOUNTED_SECONDS):
            raise MountUnavailableError(
                f"The supervisor of {self.mount.path} is still repairing the mount, and does not "
                f"end. {self.mount.spec.cache_dir} stays locked until it does, or this process "
                "ends.",
                hint=f"See what it waits for: mountkit status {self.mount.path}",
            )

    def _give_up(self) -> None:
        if self._mounter.mounted():
            self._leave()
        else:
            self._release(purge=False, unproven=True)

    def _leave(self) -> None:
        """It is still mounted: its record stays, by which it is found, unmounted or taken over."""
        directory = self._mounter.directory
        self._lease.stop()
        try:
            record = directory.read()
            if record is not None:
                directory.write(replace(record, supervisor=NOBODY))
        finally:
            self._mounter.release()
            self._lock.release()

    def _release(self, *, purge: bool, unproven: bool = False) -> None:
        try:
            if self.supervisor.record.state != FAILED:
                self._mounter.directory.clear(unproven=unproven)
            if purge:
                # Proven, and of no more use to anybody.
                self.mount.control().purge()
        finally:
            self._mounter.release()
            self._lease.release()
            self._lock.release()


def _endpoint(settings: Settings, mount: Mount, observer: Observer) -> Endpoint | None:
    """What answers for the mount, if that is asked for; it is loaded only then."""
    if settings.address is None:
        return None
    from mountkit.monitoring.endpoint import Endpoint

    return Endpoint.open(settings.address, mount, observer)
