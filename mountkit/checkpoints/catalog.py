"""Which checkpoints there are, and which is the newest proven one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit.checkpoints import lineage
from mountkit.checkpoints.manifest import Manifest
from mountkit.checkpoints.verification import listing, read_manifest, verify_file
from mountkit.errors import VerificationError
from mountkit.names import step_of
from mountkit.store.base import WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mountkit.checkpoints.attestation import FileVerdict
    from mountkit.checkpoints.manifest import FileEntry
    from mountkit.store.base import ObjectInfo, Store


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


def scan(store: Store) -> tuple[Candidate, ...]:
    """All checkpoints below the source, by step, the oldest first.

    Needs one listing of directories (a request per 1,000) and one small request per checkpoint, 16
    at a time; listing every object instead would cost a request per 1,000 files.
    """
    return tuple(
        Candidate(step, name, proven=True, saved=read.saved)
        if isinstance(read, Manifest)
        else Candidate(step, name, proven=read is not None)
        for step, name, read in _manifests(store)
    )


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
    read = _manifests(store)
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


def _manifests(store: Store) -> list[tuple[int, str, Manifest | VerificationError | None]]:
    """Every checkpoint by step, with its manifest, or why it cannot be read; None without one."""

    def read(name: str) -> Manifest | VerificationError | None:
        try:
            return read_manifest(store, name)
        except VerificationError as error:
            return error

    steps = ((step_of(name), name) for name in store.directories())
    # ``checkpoint-010`` is passed over: Trainer never writes it, and it would share step 10.
    named = sorted(
        (step, name) for step, name in steps if step is not None and name.endswith(f"-{step}")
    )
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="manifests") as pool:
        found = list(pool.map(read, [name for _, name in named]))
    return [(step, name, manifest) for (step, name), manifest in zip(named, found, strict=True)]


def _unproven(found: VerificationError | None) -> str:
    return found.message if found else "it has no manifest, so it was never proven"


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
