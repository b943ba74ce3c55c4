"""Which checkpoints there are, and which is the newest proven one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mountkit.checkpoints import lease_object, lineage
from mountkit.checkpoints.lease import superseded
from mountkit.checkpoints.manifest import Manifest
from mountkit.checkpoints.verification import dated_manifest, listing, verify_file
from mountkit.errors import (
    MountkitError,
    PermissionDeniedError,
    TimeUpError,
    VerificationError,
)
from mountkit.names import step_of
from mountkit.store.base import WORKERS
from mountkit.timing import at_once

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from datetime import datetime

    from mountkit.checkpoints.attestation import FileVerdict
    from mountkit.checkpoints.lease import Epoch, Lease
    from mountkit.checkpoints.lease_object import Seen
    from mountkit.checkpoints.manifest import FileEntry
    from mountkit.store.base import ObjectInfo, Store


NO_MANIFEST = "it has no manifest, so it was never proven"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A directory named like a checkpoint; ``proven`` tells whether it has a manifest.

    ``saved`` is that of the manifest, None if it has none or cannot be read.
    """

    step: int
    name: str
    proven: bool
    saved: datetime | None = None


@dataclass(frozen=True, slots=True)
class Proven:
    """A checkpoint whose manifest was read and whose files are intact."""

    step: int
    name: str
    url: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Survey:
    """All checkpoints below a place, by step, the oldest first, and the lease that lies there.

    ``epoch`` is the highest in any manifest, 0 for none. ``failed`` is why the lease could not be
    read.
    """

    candidates: tuple[Candidate, ...]
    lease: Seen | None
    epoch: int
    failed: MountkitError | None = None


def scan(store: Store) -> tuple[Candidate, ...]:
    """All checkpoints below the source, by step, the oldest first.

    Needs one listing of directories (a request per 1,000), one small request per checkpoint, 16
    at a time, and one for the lease if a manifest bears an epoch; listing every object instead
    would cost a request per 1,000 files.
    """
    return _candidates(_look(store))


def survey(store: Store) -> Survey:
    """The same, with the lease as it was before any manifest was read."""
    with at_once(1, "lease") as pool:
        # Beside the listing: nobody waits for it.
        asked = pool.submit(lease_object.look, store)
        found = _look(store, asked)
        lease, failed = _answer(asked)
    return Survey(_candidates(found), lease, found.epoch, failed)


def _candidates(found: _Found) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(step, name, proven=True, saved=read.saved)
        if isinstance(read, Manifest)
        else Candidate(step, name, proven=read is not None and not isinstance(read, StaleError))
        for step, name, read in found.manifests
    )


def inventory(store: Store) -> tuple[dict[int, Manifest], dict[str, str]]:
    """Every checkpoint that is proven, by step, and each name that is not, with the reason.

    Unlike for ``scan``, one whose manifest cannot be trusted is not proven: a newer mountkit, or
    somebody else, may have written it. What it costs is the same.
    """
    proven: dict[int, Manifest] = {}
    others: dict[str, str] = {}
    for step, name, found in _look(store).manifests:
        if isinstance(found, Manifest):
            proven[step] = found
        else:
            others[name] = _unproven(found)
    return proven, others


def latest(
    store: Store,
    *,
    on_skip: Callable[[str, str], None] | None = None,
    refuse: Callable[[Manifest], str] = lambda _: "",
) -> Proven | None:
    """The newest checkpoint that is proven and still intact, or None.

    That is the highest step of the training that saved last, and of those that it descends from.
    What another training has left at a higher step is passed over, for nobody resumes from it who
    has begun anew below it. One request for each manifest, 16 at a time, and one per 1,000 files
    for sizes and tags. Only files whose tag differs are looked at more closely.

    ``store``: Its source is the directory that holds the checkpoints. ``on_skip``: Called with the
    name of each directory of a higher step that was passed over, and why. ``refuse``: Says why a
    proven one is not wanted, or "".

    Raises MountkitError if the store cannot be asked. A broken checkpoint is passed over, a broken
    store is not.
    """
    read = _look(store).manifests
    proven = {step: (name, found) for step, name, found in read if isinstance(found, Manifest)}
    line = lineage.descent({step: found.saved for step, (_, found) in proven.items()})
    why = {step: _unproven(found) for step, _, found in read if not isinstance(found, Manifest)}
    newest = None
    for step in line:
        name, manifest = proven[step]
        if refused := refuse(manifest):
            why[step] = refused
            continue
        fault = _first_fault(store, name, manifest)
        if fault is None:
            newest = Proven(step, name, store.source.child(name).url, manifest)
            break
        why[step] = _sentence(fault)
    for step, name, _ in reversed(read):
        if newest is not None and step <= newest.step:
            break
        if on_skip:
            other = f"checkpoint-{line[0]}, saved later, does not descend from" if line else ""
            on_skip(name, why.get(step) or f"it is of a training that {other}")
    return newest


class StaleError(VerificationError):
    """A manifest whose writer had lost the run to another one before it was written."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Every checkpoint by step, with its manifest, or why it does not count; None without one."""

    manifests: list[tuple[int, str, Manifest | VerificationError | None]]
    epoch: int = 0


def _look(store: Store, asked: Future[Seen] | None = None) -> _Found:
    """``asked``: the lease of this very place, where somebody has asked for it already."""

    def read(name: str) -> tuple[Manifest | VerificationError | None, datetime | None]:
        try:
            return dated_manifest(store, name)
        except VerificationError as error:
            return error, None

    steps = ((step_of(name), name) for name in store.directories())
    # ``checkpoint-010`` is passed over: Trainer never writes it, and it would share step 10.
    named = sorted(
        (step, name) for step, name in steps if step is not None and name.endswith(f"-{step}")
    )
    with at_once(WORKERS, "manifests") as pool:
        found = list(pool.map(read, [name for _, name in named]))
    leases: dict[str, Lease | None] = {}
    if asked is not None:
        seen = _answer(asked)[0]
        leases[store.source.url] = seen.lease if seen is not None else None
    manifests: list[tuple[int, str, Manifest | VerificationError | None]] = []
    epoch = 0
    for (step, name), (manifest, written) in zip(named, found, strict=True):
        counts = manifest
        if isinstance(manifest, Manifest):
            epoch = max(epoch, manifest.epoch or 0)
            later = superseded(_lease_of(store, name, manifest, leases), manifest.epoch, written)
            counts = manifest if later is None else _stale(manifest, later)
        manifests.append((step, name, counts))
    return _Found(manifests, epoch)


def _answer(asked: Future[Seen]) -> tuple[Seen | None, MountkitError | None]:
    """The lease; without it every manifest counts. Who has to have it is told why."""
    try:
        return asked.result(), None
    except TimeUpError:
        raise
    except MountkitError as error:
        return None, error


def _lease_of(
    store: Store, name: str, manifest: Manifest, leases: dict[str, Lease | None]
) -> Lease | None:
    """The lease that a manifest's writer had; None where it speaks for a copy, or of nothing.

    A run may lie above the directory that is looked at: its lease is asked for once.
    """
    url = store.source.child(name).url
    if manifest.source != url or not url.startswith(f"{manifest.run}/"):
        return None
    if manifest.run not in leases:
        cut = len(store.source.url) - len(manifest.run)
        prefix = store.source.prefix[: max(0, len(store.source.prefix) - cut)].rstrip("/")
        run = replace(store.source, prefix=prefix)
        try:
            leases[manifest.run] = lease_object.look(store.at(run)).lease
        except PermissionDeniedError:
            # Who may read the checkpoints and not the lease has to trust their manifests.
            leases[manifest.run] = None
    lease = leases[manifest.run]
    return lease if lease is not None and lease.source == manifest.run else None


def _stale(manifest: Manifest, later: Epoch) -> StaleError:
    return StaleError(
        f"its writer (epoch {manifest.epoch}) wrote the manifest after another one had taken the "
        f"run (epoch {later.number}, since {later.since:%Y-%m-%d %H:%M:%S} UTC)",
        hint="It does not count: nobody knows which of the two wrote its files.",
    )


def _unproven(found: VerificationError | None) -> str:
    return found.message if found else NO_MANIFEST


def _first_fault(store: Store, name: str, manifest: Manifest) -> FileVerdict | None:
    """The first file that is not intact, by the cheapest means that settle it."""
    present = listing(store, name)
    # What a listing settles comes first, so that nothing is read of a checkpoint that is broken.
    unsettled = []
    for entry in manifest.files:
        there = present.get(entry.path)
        if there is None or there.size != entry.size:
            return verify_file(store, name, entry, there)
        if not _untouched(entry, there):
            unsettled.append((entry, there))
    for entry, there in unsettled:
        verdict = verify_file(store, name, entry, there)
        if not verdict.ok:
            return verdict
    return None


def _untouched(entry: FileEntry, there: ObjectInfo) -> bool:
    return bool(entry.etag) and there.tag == entry.etag


def _sentence(fault: FileVerdict) -> str:
    return f"{fault.path!r} is {_WORDS[fault.problem or '']}: {fault.found}, not {fault.expected}"


_WORDS = {"missing": "missing", "size": "of another size", "altered": "altered"}
