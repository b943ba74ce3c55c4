"""Mount as a run would, and try there what a save does."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.backends import selection
from mountkit.backends.file_operations import OPERATIONS
from mountkit.config.directories import state_root
from mountkit.doctor import file_operations, upload_check
from mountkit.doctor.findings import Finding, OperationResult, judge_operations
from mountkit.errors import MountkitError, MountUnavailableError
from mountkit.lifecycle import leases
from mountkit.lifecycle.session import Session
from mountkit.linux import mount_table
from mountkit.linux.process import tail
from mountkit.mounts.mount import Mount
from mountkit.state.mount_directory import StateDirectory
from mountkit.state.registry import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mountkit.config.settings import Settings
    from mountkit.spec import MountSpec

TRIAL_SECONDS = 30.0
LOG_CHARACTERS = 300
NOT_HERE = "not tried on a mount in use"


@dataclass(frozen=True, slots=True)
class Tried:
    """What was found out by mounting, and with which backend."""

    backend: str
    findings: tuple[Finding, ...]
    operations: tuple[OperationResult, ...] = ()


@dataclass(frozen=True, slots=True)
class _Serving:
    """A mount that serves. ``lent``: somebody else uses it; ``seconds`` it took to make it."""

    mount: Mount
    lent: bool
    seconds: float


def examine(spec: MountSpec, settings: Settings, name: str, *, keep: bool) -> Tried:
    """Mount, try each operation and whether a file arrives in the bucket, and unmount.

    ``spec``: What to mount where. A mount of ours that serves there already is used as it is.
    ``settings``: For the time limits, and where the state is kept. ``name``: The directory of the
    mount that everything is written to; nothing is there yet. ``keep``: Whether the mount's cache
    and private directory are those of a run, and stay.
    """
    tried = Tried(spec.backend, ())
    try:
        with _serving(spec, settings) as serving:
            tried = _try(serving, name)
    except MountkitError as error:
        # Nothing was found out yet: it is about mounting and not about unmounting.
        what = "unmount" if tried.findings else "mount"
        hint = error.hint
        if "mountkit doctor" in hint:
            # Whoever asked the doctor is told more than to ask the doctor.
            log = StateDirectory(state_root(settings) / spec.id).log
            others = [f"try --backend {name}, or " for name in _others(spec)]
            hint = f"{''.join(others[:1])}read the log of {spec.backend}: less {log}"
            hint = hint[0].upper() + hint[1:]
        tried = replace(tried, findings=(*tried.findings, Finding.of(what, what, error, hint=hint)))
    except OSError as error:
        # A full or read-only disk below the state or the cache, for one.
        where = error.filename or spec.cache_dir
        failed = MountUnavailableError(
            f"{spec.target} cannot be mounted: {where}: {error.strerror}.",
            hint=f"See whether there is room, and who may write there: df -h {where}",
        )
        tried = replace(tried, findings=(*tried.findings, Finding.of("mount", "mount", failed)))
    if not keep:
        forget(spec, settings, failed=any(found.status == "failed" for found in tried.findings))
    return tried


@contextlib.contextmanager
def _serving(spec: MountSpec, settings: Settings) -> Iterator[_Serving]:
    mount = _existing(spec, settings)
    if mount is not None:
        yield _Serving(mount, lent=True, seconds=0.0)
        return
    began = time.monotonic()
    opened: list[Session] = []
    try:
        session = Session.open(spec, settings, keep=opened.append, holder=leases.nobody)
        yield _Serving(session.mount, lent=False, seconds=time.monotonic() - began)
    finally:
        for each in opened:
            each.close()


def _existing(spec: MountSpec, settings: Settings) -> Mount | None:
    state = State(state_root(settings))
    record = state.at(spec.target)
    if record is None:
        return None
    mount = Mount.of(record, state)
    if not mount.serving():
        return None
    if (record.spec.source, record.spec.store) != (spec.source, spec.store):
        raise MountUnavailableError(
            f"{mount.source} is mounted at {spec.target} already"
            + (", by other settings." if mount.source == spec.source.url else "."),
            hint=f"Unmount it first: mountkit umount {spec.target}",
        )
    return mount


def _try(serving: _Serving, name: str) -> Tried:
    mount = serving.mount
    backend = backends.load(mount.spec.backend)
    how = "in use already" if serving.lent else f"serves after {serving.seconds:.1f} s"
    findings = [Finding("mount", "mount", "ok", f"{backend.name}, {how}")]
    # Where such a mount refuses something, its log then names a file that a drain would miss.
    spared = backend.unsupported_operations if serving.lent else frozenset()
    names = [operation.name for operation in OPERATIONS if operation.name not in spared]
    trial = file_operations.attempt(f"{mount.path}/{name}", names, TRIAL_SECONDS)
    told = {result.operation: result for result in trial.results}
    results = tuple(
        told.get(operation.name)
        or OperationResult(operation.name, works=False, problem=NOT_HERE, tried=False)
        for operation in OPERATIONS
    )
    others = {other: backends.load(other).unsupported_operations for other in _others(mount.spec)}
    judged = judge_operations(results, backend.name, backend.unsupported_operations, others)
    findings.extend(_explained(finding, mount) for finding in judged)
    if not any(finding.status == "failed" for finding in judged):
        findings.append(upload_check.examine(mount, f"{name}-arrival"))
    findings.extend(upload_check.tidy(mount, (name, f"{name}-arrival"), trial.left))
    return Tried(backend.name, tuple(findings), results)


def _others(spec: MountSpec) -> list[str]:
    """The other backends that mount such a store."""
    return [
        name
        for name in backends.NAMES
        if name != spec.backend and selection.mounts(name, spec.source.scheme)
    ]


def _explained(finding: Finding, mount: Mount) -> Finding:
    """A failure with the daemon's last words, which tell more than an error number."""
    if finding.status != "failed":
        return finding
    lines = tail(mount.directory.log).splitlines()
    said = lines[-1][:LOG_CHARACTERS] if lines else "nothing"
    detail = f"{finding.detail} The last that {mount.spec.backend} said: {said}"
    return replace(finding, detail=detail)


def forget(spec: MountSpec, settings: Settings, *, failed: bool) -> None:
    """Remove the cache of a mount that was only made to be tried, and its private directory.

    Neither while it is still mounted. Its log stays if something failed: a hint may say to read it.
    """
    if mount_table.at(spec.target) is not None:
        return
    shutil.rmtree(spec.cache_dir, ignore_errors=True)
    directory = StateDirectory(state_root(settings) / spec.id)
    if not failed or not directory.log.exists():
        shutil.rmtree(directory.path, ignore_errors=True)
