"""Is an object what was written? The strongest answer the store offers, rung by rung.

Full-object checksum; composite checksum by parts; the object's tag, where it is an MD5 of the bytes
or is recomputed with the object's own parts; at last every byte read back from the store. A
checksum of the whole object settles it either way. A tag, or a composite whose parts had to be
inferred, only ever proves: where it differs, the bytes decide. What the store only repeats of what
its client sent is no rung.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit.store import checksums
from mountkit.store.base import ObjectChangedError, ObjectMissingError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from mountkit.store.base import Attestation, Checksum, Store
    from mountkit.store.checksums import FileDigest
    from mountkit.timing import Deadline

#: The preferred first, of the scopes and of the algorithms within one.
SCOPES = ("object", "parts", "tag")
ALGORITHMS = ("crc64nvme", "crc32c", "sha256", "sha1", "crc32", "md5", checksums.HDFS)
READ_BACK = "read-back"


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """Whether one object is what it should be.

    Parameters
    ----------
    path:
        Relative to the checkpoint.
    problem:
        None if it is, else ``missing``, ``size`` or ``altered``.
    expected, found:
        What was compared, in the words of a message; equal where there is no problem.
    attested_by:
        The rung that settled it, such as ``crc64nvme``, ``md5-composite`` or ``read-back``; ""
        where the object is missing or of another size.
    etag:
        The object's tag at the time.

    """

    path: str
    problem: str | None
    expected: str
    found: str
    attested_by: str
    etag: str

    @property
    def ok(self) -> bool:
        """Whether the object is what it should be."""
        return self.problem is None


def attest_object(
    store: Store,
    path: str,
    reference: FileDigest,
    local: str | os.PathLike[str] | None = None,
    *,
    attestation: Attestation | None = None,
    deadline: Deadline | None = None,
) -> FileVerdict:
    """Compare an object with the bytes as they were written.

    Parameters
    ----------
    store:
        Asked for what it knows; read from only if that does not settle it.
    path:
        The object's path below the store's source.
    reference:
        Size and CRC64NVME of the bytes as written; other checksums in it save reading ``local``.
    local:
        The same bytes on local disk, for stores with other checksums. It is believed only while its
        CRC64NVME is that of the reference. None if there is no such copy.
    attestation:
        What the store said already (of ``Store.stat_many``), to save a request.
    deadline:
        Looked at while ``local`` is read; the store has its own.

    Raises
    ------
    TimeUpError
        If a deadline passes before there is a verdict.
    MountkitError
        If the store cannot be asked.

    """
    seen = attestation or store.stat(path)
    if seen is None:
        return missing(path, reference.size)
    if seen.size != reference.size:
        return wrong_size(path, reference.size, seen.size, seen.tag)
    digest = _Local(reference, local, deadline)
    for checksum in ladder(seen):
        verdict = _rung(store, path, seen, checksum, digest)
        if verdict is not None:
            return verdict
    return read_back(store, path, reference, etag=seen.tag)


def ladder(seen: Attestation) -> list[Checksum]:
    """The checksums that the store computed, the one to compare first in front."""
    return sorted(
        (checksum for checksum in seen.checksums if checksum.by == "store"),
        key=lambda checksum: (
            SCOPES.index(checksum.scope),
            ALGORITHMS.index(checksum.algorithm),
        ),
    )


def missing(path: str, size: int) -> FileVerdict:
    """The verdict on an object that is not there; ``size`` is what it should have, in bytes."""
    return FileVerdict(path, "missing", f"{size} bytes", "no object", "", "")


def wrong_size(path: str, expected: int, found: int, etag: str) -> FileVerdict:
    """The verdict on an object that has another size, in bytes."""
    return FileVerdict(path, "size", f"{expected} bytes", f"{found} bytes", "", etag)


def compared(path: str, by: str, expected: str, found: str, etag: str) -> FileVerdict:
    """The verdict of comparing two checksums."""
    problem = None if expected == found else "altered"
    return FileVerdict(path, problem, f"{by} {expected}", f"{by} {found}", by, etag)


def read_back(store: Store, path: str, reference: FileDigest, *, etag: str) -> FileVerdict:
    """Read every byte of an object from the store and compare size and CRC64NVME.

    ``reference`` must have ``crc64nvme``; ``etag`` is the one that goes into the verdict.
    """
    expected = reference.values[checksums.REFERENCE]
    try:
        size, found = checksums.crc64nvme_chunks(store.chunks(path))
    except ObjectMissingError:
        return missing(path, reference.size)
    except ObjectChangedError:
        return FileVerdict(
            path, "altered", f"crc64nvme {expected}", "replaced while being read", READ_BACK, etag
        )
    if size != reference.size:
        return wrong_size(path, reference.size, size, etag)
    problem = None if found == expected else "altered"
    return FileVerdict(
        path, problem, f"crc64nvme {expected}", f"crc64nvme {found}", READ_BACK, etag
    )


class _Local:
    """Checksums of the bytes as written, taken only when a rung needs them."""

    def __init__(
        self,
        reference: FileDigest,
        path: str | os.PathLike[str] | None,
        deadline: Deadline | None,
    ) -> None:
        self._reference = reference
        self._path = path
        self._deadline = deadline

    def whole(self, algorithm: str) -> str | None:
        known = self._reference.values.get(algorithm)
        if known is not None:
            return known
        return self._believed(
            lambda path: checksums.digest_file(
                path, (algorithm, checksums.REFERENCE), deadline=self._deadline
            ),
            algorithm,
        )

    def parts(self, algorithm: str, sizes: tuple[int, ...]) -> str | None:
        return self._believed(
            lambda path: checksums.digest_file_parts(
                path, algorithm, sizes, deadline=self._deadline
            ),
            checksums.composite_name(algorithm),
        )

    def _believed(
        self, take: Callable[[str | os.PathLike[str]], FileDigest], name: str
    ) -> str | None:
        if self._path is None:
            return None
        try:
            taken = take(self._path)
        except OSError:
            # The copy is a convenience, and may be gone with its mount. The store has the bytes.
            return None
        same = (
            taken.size == self._reference.size
            and taken.values[checksums.REFERENCE] == self._reference.values[checksums.REFERENCE]
        )
        return taken.values[name] if same else None


def _rung(
    store: Store, path: str, seen: Attestation, checksum: Checksum, local: _Local
) -> FileVerdict | None:
    """The verdict by one checksum; None if it does not settle it."""
    name, found = checksum.algorithm, checksum.value
    if checksum.scope == "object":
        expected = local.whole(name)
        return compared(path, name, expected, found, seen.tag) if expected else None
    if checksum.scope == "tag" and "-" not in found:
        whole = local.whole(name)
        expected = checksums.hex_of(whole) if whole else None
    else:
        sizes = store.part_sizes(path, seen)
        expected = local.parts(name, sizes) if sizes else None
        name = checksums.composite_name(name)
    return compared(path, name, found, found, seen.tag) if expected == found else None
