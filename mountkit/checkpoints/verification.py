"""A manifest held against the store, to see whether a checkpoint is still what was proven."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mountkit.checkpoints.attestation import FileVerdict, compared, missing, read_back, wrong_size
from mountkit.checkpoints.manifest import Manifest
from mountkit.errors import UsageError, VerificationError
from mountkit.names import MANIFEST_NAME, is_own, is_proof, step_of
from mountkit.store.checksums import REFERENCE, FileDigest
from mountkit.timing import at_once

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mountkit.checkpoints.manifest import FileEntry
    from mountkit.store.base import Attestation, ObjectInfo, Store

LEVELS = frozenset({"attest", "readback"})

WORKERS = 8
ETAG_UNCHANGED = "etag-unchanged"


@dataclass(frozen=True, slots=True)
class CheckpointVerdict:
    """What became of a proven checkpoint.

    ``extra`` are objects in its directory that the manifest does not list: told, but no fault.
    """

    step: int
    url: str
    created: datetime
    files: tuple[FileVerdict, ...]
    extra: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every file of the manifest is intact."""
        return all(file.ok for file in self.files)

    @property
    def faults(self) -> tuple[FileVerdict, ...]:
        """The files that are not intact."""
        return tuple(file for file in self.files if not file.ok)

    def to_json(self) -> dict[str, Any]:
        """The verdict as a JSON object.

        Returns ``ok`` (bool), ``step`` (int), ``url``, ``created`` (RFC 3339), ``files`` (a list of
        ``path``, ``problem`` (null, "missing", "size" or "altered"), ``expected``, ``found``,
        ``attested_by``, ``etag``), and ``extra`` (a list of paths).
        """
        return {
            "ok": self.ok,
            "step": self.step,
            "url": self.url,
            "created": self.created.isoformat(),
            "files": [asdict(file) for file in self.files],
            "extra": list(self.extra),
        }


def read_manifest(store: Store, directory: str) -> Manifest | None:
    """The manifest of a directory, or None if it has none.

    Raises VerificationError if it cannot be trusted, or is that of another step.
    """
    return dated_manifest(store, directory)[0]


def dated_manifest(store: Store, directory: str) -> tuple[Manifest | None, datetime | None]:
    """The same, and when the store dated it."""
    path = inside(directory, MANIFEST_NAME)
    found = store.read(path)
    if found.data is None:
        return None, None
    url = store.source.child(path).url
    manifest = Manifest.from_bytes(found.data, where=url)
    step = step_of(store.source.key(directory).rpartition("/")[2])
    if step is not None and step != manifest.step:
        raise VerificationError(
            f"{url} is the manifest of step {manifest.step}, not of step {step}.",
            hint=f"The directory was copied or renamed; see the rest: mountkit latest "
            f"{store.source.url}",
        )
    return manifest, found.modified


def verify(store: Store, directory: str, level: str = "attest") -> CheckpointVerdict:
    """Hold a checkpoint's manifest against the store.

    Parameters
    ----------
    store:
        Asked and, where its word does not settle it, read from.
    directory:
        The checkpoint's path below the store's source; "" if the source is the checkpoint.
    level:
        ``attest`` compares the store's own CRC64NVME with the manifest, else takes an unchanged
        tag for an unchanged object, else reads it. ``readback`` reads every byte.

    Raises VerificationError if there is no manifest, or none that can be trusted; UsageError if
    ``level`` is neither of the two. A file that is not intact is no error but a verdict.
    """
    if level not in LEVELS:
        raise UsageError(f"{level!r} is not a level.", hint="Use attest or readback.")
    manifest = read_manifest(store, directory)
    if manifest is None:
        url = store.source.child(inside(directory, MANIFEST_NAME)).url
        raise VerificationError(
            f"{url} is not there, so this is not a proven checkpoint.",
            hint=f"See which one is: mountkit latest {store.source.url}",
        )
    present = listing(store, directory)
    told: Mapping[str, Attestation | None] = {}
    if level == "attest" and store.lists_checksums:
        told = store.stat_many(inside(directory, entry.path) for entry in manifest.files)

    def one(entry: FileEntry) -> FileVerdict:
        return verify_file(store, directory, entry, present.get(entry.path), level, told)

    with at_once(WORKERS, "verify") as pool:
        files = tuple(pool.map(one, manifest.files))
    expected = {entry.path for entry in manifest.files}
    return CheckpointVerdict(
        step=manifest.step,
        url=store.source.child(directory).url,
        created=manifest.created,
        files=files,
        extra=tuple(
            sorted(path for path in set(present) - expected if not (is_proof(path) or is_own(path)))
        ),
    )


def verify_file(
    store: Store,
    directory: str,
    entry: FileEntry,
    present: ObjectInfo | None,
    level: str = "attest",
    told: Mapping[str, Attestation | None] = MappingProxyType({}),
) -> FileVerdict:
    """Whether one file of a manifest is intact.

    ``store``, ``directory``, ``level``: As for ``verify``. ``entry``: What the manifest says.
    ``present``: What a listing shows of the object, or None if it does not list it. ``told``: What
    the store said already of objects, by path below its source (``Store.stat_many``).
    """
    reference = FileDigest(entry.size, {REFERENCE: entry.crc64nvme})
    path = inside(directory, entry.path)
    if present is None:
        return missing(entry.path, entry.size)
    if present.size != entry.size:
        return wrong_size(entry.path, entry.size, present.size, present.tag)
    verdict = None
    if level == "attest":
        verdict = _attested(entry, told[path] if path in told else store.stat(path))
    if verdict is None:
        verdict = replace(read_back(store, path, reference, etag=present.tag), path=entry.path)
    return verdict


def _attested(entry: FileEntry, seen: Attestation | None) -> FileVerdict | None:
    """What the store's word alone settles; None if the bytes have to be read."""
    if seen is None:
        return missing(entry.path, entry.size)
    if seen.size != entry.size:
        return wrong_size(entry.path, entry.size, seen.size, seen.tag)
    found = seen.whole(REFERENCE)
    if found:
        return compared(entry.path, REFERENCE, entry.crc64nvme, found, seen.tag)
    if entry.etag and seen.tag == entry.etag:
        return FileVerdict(entry.path, None, entry.etag, seen.tag, ETAG_UNCHANGED, seen.tag)
    return None


def listing(store: Store, directory: str) -> Mapping[str, ObjectInfo]:
    """The objects below a directory by path relative to it; one request per 1,000."""
    cut = len(directory) + 1 if directory else 0
    return {item.path[cut:]: item for item in store.list(directory)}


def inside(directory: str, path: str) -> str:
    """The path below the source of a path below a directory ("" for the source itself)."""
    return f"{directory}/{path}" if directory else path
