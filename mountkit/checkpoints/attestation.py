"""Is an object what was written? The strongest answer the store offers, rung by rung.

Full-object checksum; composite checksum by parts; MD5 ETag; composite ETag recomputed with the
object's own parts; at last every byte read back from the store. A checksum of the store's own
settles it either way. An ETag, or a composite whose parts had to be inferred, only ever proves:
where it differs, the bytes decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit.store import checksums
from mountkit.store.base import ObjectChangedError, ObjectMissingError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from mountkit.store.base import Attestation, Store
    from mountkit.store.checksums import FileDigest
    from mountkit.timing import Deadline

#: Full-object checksums, the preferred first.
FULL_OBJECT = ("crc64nvme", "crc32c", "sha256", "sha1", "crc32")
READ_BACK = "read-back"

_MD5_HEX = re.compile(r"[0-9a-f]{32}")
_MD5_PARTS = re.compile(r"[0-9a-f]{32}-[0-9]+")


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
        The object's ETag at the time.

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


def attest_file(
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
        What the store said already (of ``Store.attest_many``), to save a request.
    deadline:
        Looked at while ``local`` is read; the store has its own.

    Raises
    ------
    TimeUpError
        If a deadline passes before there is a verdict.
    MountkitError
        If the store cannot be asked.

    """
    seen = attestation or store.attest(path)
    if seen is None:
        return missing(path, reference.size)
    if seen.size != reference.size:
        return wrong_size(path, reference.size, seen.size, seen.etag)
    digest = _Local(reference, local, deadline)
    for rung in (_full_object, _composite, _md5, _md5_composite):
        verdict = rung(store, path, seen, digest)
        if verdict is not None:
            return verdict
    return read_back(store, path, reference, etag=seen.etag)


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


def _full_object(store: Store, path: str, seen: Attestation, local: _Local) -> FileVerdict | None:
    del store
    if seen.composite:
        return None
    for algorithm in FULL_OBJECT:
        found = seen.checksums.get(algorithm)
        expected = local.whole(algorithm) if found else None
        if found and expected:
            return compared(path, algorithm, expected, found, seen.etag)
    return None


def _composite(store: Store, path: str, seen: Attestation, local: _Local) -> FileVerdict | None:
    algorithm = next((name for name in FULL_OBJECT if name in seen.checksums), None)
    if not seen.composite or algorithm is None:
        return None
    expected = _by_parts(store, path, seen, local, algorithm=algorithm)
    if expected != seen.checksums[algorithm]:
        return None
    return compared(path, checksums.composite_name(algorithm), expected, expected, seen.etag)


def _md5(store: Store, path: str, seen: Attestation, local: _Local) -> FileVerdict | None:
    del store
    if not seen.etag_is_md5 or not _MD5_HEX.fullmatch(seen.etag):
        return None
    expected = local.whole("md5")
    if expected is None or checksums.hex_of(expected) != seen.etag:
        return None
    return compared(path, "md5", seen.etag, seen.etag, seen.etag)


def _md5_composite(store: Store, path: str, seen: Attestation, local: _Local) -> FileVerdict | None:
    if not seen.etag_is_md5 or not _MD5_PARTS.fullmatch(seen.etag):
        return None
    expected = _by_parts(store, path, seen, local, algorithm="md5")
    if expected != seen.etag:
        return None
    return compared(path, checksums.composite_name("md5"), expected, expected, seen.etag)


def _by_parts(
    store: Store, path: str, seen: Attestation, local: _Local, *, algorithm: str
) -> str | None:
    sizes = store.part_sizes(path, seen)
    return local.parts(algorithm, sizes) if sizes else None
