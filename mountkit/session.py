"""Own a mount from the first check to the last byte: the one way in which everything mounts."""

from __future__ import annotations

import contextlib
import functools
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends, cachelock, config, listening, mountinfo, state
from mountkit import target as targets
from mountkit.apart import apart
from mountkit.backends import auto
from mountkit.deadline import Deadline
from mountkit.drain import DrainReport, checked_again, drain
from mountkit.errors import ConfigurationError, MountUnavailableError, UsageError
from mountkit.events import Observer, silent
from mountkit.handle import Mount
from mountkit.mounter import Mounter
from mountkit.process import ProcessIdentity
from mountkit.spec import MountSpec, Source, Unproven, mount_id, printable
from mountkit.state import MountRecord, State
from mountkit.store import S3Store
from mountkit.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from filelock import FileLock

    from mountkit.listening import Listener


# The look itself ends after some seconds; listing a large bucket takes longer.
LOOK_SECONDS = 300.0


def specify(
    source: str, target: str | Path, settings: config.Settings, options: Sequence[str] = ()
) -> MountSpec:
    """Put together what to mount where, and refuse what makes no sense. Changes nothing.

    Raises
    ------
    UsageError
        If the URL is none, or an option is not ``KEY=VALUE`` or is mountkit's own.
    MountUnavailableError
        If the backend is ``auto``, and there is none.
    """
    place = Source.parse(source)
    root = config.cache_root(settings)
    name, why = settings.backend, ""
    if name == "auto":
        choice = auto.choose(config.search_path(), root)
        name, why = choice.name, choice.why
    backend = backends.load(name)
    pairs = []
    for option in options:
        key, separator, value = option.partition("=")
        if not separator or not key:
            raise UsageError(
                f"--option {option!r} is not KEY=VALUE.", hint="Such as: --option transfers=8"
            )
        pairs.append((key.lstrip("-"), value))
    backend.check_options(pairs)
    path = targets.resolve(target)
    identifier = mount_id(place, path, settings.store)
    return MountSpec(
        source=place,
        target=path,
        backend=name,
        why=why,
        store=settings.store,
        cache_dir=str(root / identifier),
        largest_file=settings.largest_file,
        options=tuple(pairs),
    )


def first_look(spec: MountSpec) -> tuple[str, ...]:
    """See that the store can be used; the checkpoints that are there without a manifest.

    Raises
    ------
    MountkitError
        What ``preflight.check`` raises.
    """
    from mountkit import checkpoints

    store = S3Store(spec.source, spec.store)
    store.check()
    return tuple(found.name for found in checkpoints.scan(store) if not found.proven)


def first_look_apart(spec: MountSpec) -> tuple[str, ...]:
    """The same in a process of its own: a client of the store takes 30 MiB that stay."""
    return apart(functools.partial(first_look, spec), LOOK_SECONDS)


class Session:
    """A mount that this process owns and supervises."""

    def __init__(
        self,
        mount: Mount,
        mounter: Mounter,
        supervisor: Supervisor,
        lock: FileLock,
        limits: config.Limits,
        listener: Listener,
    ) -> None:
        self.mount = mount
        self.supervisor = supervisor
        self._mounter = mounter
        self._lock = lock
        self._limits = limits
        self._listener = listener

    @classmethod
    def open(
        cls,
        spec: MountSpec,
        settings: config.Settings,
        observer: Observer = silent,
        first_look: Callable[[MountSpec], tuple[str, ...]] = first_look,
    ) -> Session:
        """Check everything, mount, and start to supervise. Returns when the mount serves.

        Raises
        ------
        MountUnavailableError
            A tool is missing, the target is in use, the store or the daemon cannot be had.
        PermissionDeniedError, ConfigurationError
            The store refused the credentials, or has no such bucket.
        """
        fusermount = targets.fusermount(config.search_path())
        backend = backends.load(spec.backend)
        binary = backend.binary(config.search_path())
        _refuse_waiting_elsewhere(spec)
        unproven_before = first_look(spec)
        known = State(config.state_root(settings))
        directory = known.directory(spec.id)
        mount = Mount(spec, directory)
        with contextlib.ExitStack() as undo:
            lock = cachelock.acquire(spec)
            undo.callback(lock.release)
            listener = listening.begin(settings.address, mount, observer)
            undo.callback(listener.close)
            env = config.daemon_environment(spec.store)
            mounter = Mounter(spec, backend, binary, directory, fusermount, env)
            undo.callback(mounter.release)
            _clear_another(spec, known, fusermount)
            earlier = directory.read()
            _refuse_waiting_in(directory.unfinished(), spec)
            if earlier is not None and _same(earlier.spec, spec) and mounter.adopt(earlier):
                record = replace(earlier, supervisor=ProcessIdentity.mine(), state=state.SERVING)
                directory.forget_stop()
                directory.write(record)
            else:
                record = _mount_anew(mounter, earlier, unproven_before, settings.mount_timeout)
            undo.pop_all()
        supervisor = Supervisor(
            mounter,
            record,
            attempts=settings.remount_attempts,
            mount_timeout=settings.mount_timeout,
            limits=config.health_limits(settings),
            observer=listener.counting(observer),
        )
        supervisor.start()
        listener.watch(supervisor.finished)
        return cls(mount, mounter, supervisor, lock, config.limits(settings), listener)

    def finish(
        self, observer: Observer = silent, *, ended_well: bool, deadline: Deadline | None = None
    ) -> DrainReport:
        """Drain, unmount and let go; what the report names is not proven to be in the store.

        ``ended_well`` as for :func:`mountkit.drain.drain`. By ``deadline`` the drain is over.
        """
        limits = self._limits.until(deadline or Deadline())
        try:
            self._mounter.keep_strays()
            report = drain(self.mount, limits, observer, ended_well=ended_well)
            if self.mount.record() is None and not self.supervisor.stopped:
                lost = f"{self.mount.directory.path} is gone, which told what was written"
                unknown = Unproven(self.mount.path, 0, lost)
                report = replace(report, unproven=(*report.unproven, unknown))
        except BaseException:
            self.close()
            raise
        self._unmount()
        report = checked_again(self.mount, report)
        self._release(purge=report.complete, unproven=not report.complete)
        return report

    def unmounted_from_outside(self) -> bool:
        """Whether ``mountkit umount`` drained the mount and had it taken away."""
        return self.supervisor.stopped

    def close(self) -> None:
        """Unmount and let go without a drain. What was not uploaded stays in the cache."""
        self._unmount()
        self._release(purge=False, unproven=not self.supervisor.stopped)

    def _unmount(self) -> None:
        self._listener.close()
        self.supervisor.stop()
        try:
            self._mounter.unmount()
        except BaseException:
            self._release(purge=False, unproven=True)
            raise

    def _release(self, *, purge: bool, unproven: bool = False) -> None:
        try:
            if self.supervisor.record.state != state.FAILED:
                self._mounter.directory.clear(unproven=unproven)
            if purge:
                # Proven, and of no more use to anybody.
                self.mount.control().purge()
        finally:
            self._mounter.release()
            self._lock.release()


def _refuse_waiting_in(left: MountRecord | None, spec: MountSpec) -> None:
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


def _same(one: MountSpec, other: MountSpec) -> bool:
    """Whether the daemon of the one does for the other."""
    return replace(one, why="") == replace(other, why="")


def _mount_anew(
    mounter: Mounter, earlier: MountRecord | None, unproven_before: tuple[str, ...], timeout: float
) -> MountRecord:
    """Make the target ready, start the daemon, and write down that it serves."""
    directory = mounter.directory
    mounter.device = earlier.device if earlier else None
    mounter.clear_target(earlier.daemon if earlier else None)
    before = directory.unfinished()
    takes_over = directory.begin()
    began = time.time()
    record = MountRecord(
        mounter.spec,
        state.MOUNTING,
        state.now(),
        ProcessIdentity.mine(),
        began=began,
        adopted=_adopted(mounter, unproven_before if takes_over else None),
        # What was being saved when that mount ended, however it did, is torn.
        lost=(*before.lost, began) if before is not None else (),
        unproven_before=unproven_before,
    )
    directory.write(record)

    def seen() -> None:
        nonlocal record
        daemon = mounter.daemon
        identity = daemon.identity if daemon else None
        record = replace(record, daemon=identity, device=mounter.device)
        directory.write(record)

    try:
        mounter.start(timeout, seen)
        record = record.change(state.SERVING, strays_before=directory.strays())
        directory.write(record)
    except BaseException:
        # Nobody would look after a daemon that this process gives up.
        mounter.kill()
        directory.clear(unproven=takes_over)
        raise
    return record


def _clear_another(spec: MountSpec, known: State, fusermount: str) -> None:
    """A dead mount of ours at the same target, but of another bucket or backend, makes way.

    Files of it that still wait for their upload stay in its cache, for when it is mounted again.
    """
    entry, record = mountinfo.at(spec.target), known.at(spec.target)
    if entry is None or record is None:
        return
    if (record.spec.id, record.spec.backend) == (spec.id, spec.backend):
        return
    other = backends.load(record.spec.backend)
    if not other.owns(entry, record.spec.id, record.device):
        return
    if record.supervisor.alive() or (record.daemon is not None and record.daemon.alive()):
        raise MountUnavailableError(
            f"{record.spec.source.url} is mounted at {spec.target} already.",
            hint=f"Unmount it first: mountkit umount {spec.target}",
        )
    problem = targets.unmount(fusermount, spec.target, lazy=True)
    if problem:
        raise MountUnavailableError(
            f"A dead mount at {spec.target} cannot be taken away: {problem}.",
            hint=f"Try: fusermount3 -u -z {spec.target}",
        )
    known.directory(record.spec.id).clear(unproven=True)


def _adopted(mounter: Mounter, unproven: tuple[str, ...] | None) -> tuple[str, ...]:
    """What an earlier mount wrote, and nobody has proven.

    ``unproven`` has the checkpoints in the store without a manifest, None if that mount came to its
    end. Their files are adopted even where they were uploaded, unless a cache has forgotten them.
    """
    everything = unproven is not None and not mounter.backend.caches
    uploaded = tuple(f"{name}/" for name in unproven or ())
    return tuple(
        file.path
        for file in mounter.control.files()
        if everything or file.dirty or file.path.startswith(uploaded)
    )


def _refuse_waiting_elsewhere(spec: MountSpec) -> None:
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
