"""Checksums in the form a store gives them, and the arithmetic of its composites.

The only importer of awscrt, which it loads on first use.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from mountkit.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mountkit.timing import Deadline

CHUNK_BYTES = 8 * 1024 * 1024

#: The checksum every manifest carries, and the one a read-back is compared by.
REFERENCE = "crc64nvme"

CRC_BYTES: Mapping[str, int] = MappingProxyType({"crc64nvme": 8, "crc32c": 4, "crc32": 4})
HASHES = frozenset({"sha256", "sha1", "md5"})
#: Of a block in HDFS: the MD5 of the CRC32Cs of so many bytes each.
HDFS, HDFS_CHUNK_BYTES = "hdfs-crc32c", 512
# How far the MD5s of the blocks are filled up before the MD5 of them all is taken.
_HDFS_LEAST_BYTES = 32
ALGORITHMS = frozenset(CRC_BYTES) | HASHES | {HDFS}


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What a file holds: ``size`` in bytes, and its checksums by algorithm, base64.

    Where the digest was taken part by part, ``values`` also has ``<algorithm>-composite``: base64,
    except that of MD5, which is as stores write it (hex, a dash, the number of parts).
    """

    size: int
    values: Mapping[str, str] = field(default_factory=dict)


class _Running(Protocol):
    def update(self, data: memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc:
    """A running CRC with the two methods of hashlib's objects that are needed here."""

    def __init__(self, algorithm: str) -> None:
        from awscrt import checksums

        self._step: Callable[[memoryview, int], int] = getattr(checksums, algorithm)
        self._width = CRC_BYTES[algorithm]
        self._value = 0

    def update(self, data: memoryview, /) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


class _HdfsBlock:
    """The running checksum of a block in HDFS."""

    def __init__(self) -> None:
        from awscrt import checksums

        self._crc32c: Callable[[memoryview], int] = checksums.crc32c
        self._crcs = hashlib.md5(usedforsecurity=False)
        self._rest = b""

    def update(self, data: memoryview, /) -> None:
        if self._rest:
            taken = data[: HDFS_CHUNK_BYTES - len(self._rest)]
            self._rest, data = self._rest + taken, data[len(taken) :]
            if len(self._rest) < HDFS_CHUNK_BYTES:
                return
            self._take(memoryview(self._rest))
        whole = len(data) - len(data) % HDFS_CHUNK_BYTES
        self._take(data[:whole])
        self._rest = bytes(data[whole:])

    def _take(self, data: memoryview) -> None:
        crc32c, starts = self._crc32c, range(0, len(data), HDFS_CHUNK_BYTES)
        crcs = [crc32c(data[start : start + HDFS_CHUNK_BYTES]) for start in starts]
        self._crcs.update(struct.pack(f">{len(crcs)}I", *crcs))

    def digest(self) -> bytes:
        crcs = self._crcs.copy()
        if self._rest:
            crcs.update(self._crc32c(memoryview(self._rest)).to_bytes(4, "big"))
        return crcs.digest()


def _running(algorithm: str) -> _Running:
    if algorithm in CRC_BYTES:
        return _Crc(algorithm)
    if algorithm == HDFS:
        return _HdfsBlock()
    if algorithm in HASHES:
        return hashlib.new(algorithm, usedforsecurity=False)
    known = ", ".join(sorted(ALGORITHMS))
    raise UsageError(f"{algorithm!r} is not a checksum mountkit knows.", hint=f"Known: {known}.")


class Digester:
    """Several checksums of one stream of bytes, in one pass.

    Raises UsageError if an algorithm is none of ``ALGORITHMS``.
    """

    def __init__(self, algorithms: Iterable[str] = (REFERENCE,)) -> None:
        self._running = {algorithm: _running(algorithm) for algorithm in algorithms}
        self.size = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take in the next bytes."""
        view = memoryview(data).cast("B")
        self.size += view.nbytes
        for running in self._running.values():
            running.update(view)

    def raw(self, algorithm: str) -> bytes:
        """The checksum of the bytes so far, as bytes."""
        return self._running[algorithm].digest()

    def result(self) -> FileDigest:
        """The size and the checksums of the bytes so far."""
        return FileDigest(self.size, {name: encode(self.raw(name)) for name in self._running})


def encode(raw: bytes) -> str:
    """Base64, as stores write a checksum."""
    return base64.b64encode(raw).decode("ascii")


def decode(value: str, algorithm: str = REFERENCE) -> bytes | None:
    """The bytes of a base64 checksum, or None if ``value`` is no checksum of ``algorithm``."""
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == _width(algorithm) else None


def _width(algorithm: str) -> int:
    if algorithm == HDFS:
        algorithm = "md5"
    return CRC_BYTES.get(algorithm) or hashlib.new(algorithm, usedforsecurity=False).digest_size


def hex_of(value: str) -> str:
    """A base64 checksum in hex, as a tag shows an MD5."""
    return base64.b64decode(value).hex()


def crc64nvme_chunks(chunks: Iterable[bytes]) -> tuple[int, str]:
    """Size in bytes and CRC64NVME (base64) of a stream of bytes."""
    digester = Digester()
    for chunk in chunks:
        digester.update(chunk)
    return digester.size, digester.result().values[REFERENCE]


def digest_bytes(data: bytes, algorithms: Iterable[str] = (REFERENCE,)) -> FileDigest:
    """The checksums of bytes in memory."""
    digester = Digester(algorithms)
    digester.update(data)
    return digester.result()


def digest_file(
    path: str | os.PathLike[str],
    algorithms: Sequence[str] = (REFERENCE,),
    chunk_bytes: int = CHUNK_BYTES,
    deadline: Deadline | None = None,
) -> FileDigest:
    """The size and the checksums of a file, read once, in constant memory.

    ``path``: The file to read. ``algorithms``: Any of ``ALGORITHMS``. ``chunk_bytes``: How much is
    read at a time, in bytes. ``deadline``: Looked at between the chunks.

    Raises UsageError if an algorithm is unknown; TimeUpError if the deadline passes; OSError if the
    file cannot be opened or read.
    """
    digester = Digester(algorithms)
    for view in _views(path, chunk_bytes, deadline):
        digester.update(view)
    return digester.result()


def digest_file_parts(
    path: str | os.PathLike[str],
    algorithm: str,
    part_sizes: Sequence[int],
    chunk_bytes: int = CHUNK_BYTES,
    deadline: Deadline | None = None,
) -> FileDigest:
    """The composite checksum of a file cut into parts, and its CRC64NVME, in one pass.

    As ``digest_file``, but for ``part_sizes``: the sizes of the parts in bytes, in order. Bytes
    past their sum belong to no part, and only ``size`` and ``crc64nvme`` show them.

    Returns a digest whose ``values`` have ``crc64nvme`` and ``<algorithm>-composite``.
    """
    whole = Digester()
    parts: list[bytes] = []
    remaining = iter(part_sizes)
    part, room = Digester((algorithm,)), next(remaining, 0)
    for view in _views(path, chunk_bytes, deadline):
        whole.update(view)
        rest = view
        while rest.nbytes and room:
            taken = rest[:room]
            part.update(taken)
            room -= taken.nbytes
            rest = rest[taken.nbytes :]
            if not room:
                parts.append(part.raw(algorithm))
                part, room = Digester((algorithm,)), next(remaining, 0)
    if part.size:
        parts.append(part.raw(algorithm))
    composite = composite_md5(parts) if algorithm == "md5" else composite_of(algorithm, parts)
    return FileDigest(whole.size, {**whole.result().values, composite_name(algorithm): composite})


def composite_name(algorithm: str) -> str:
    """The name of an algorithm's checksum of checksums, in a digest and in a manifest."""
    return f"{algorithm}-composite"


def composite_of(algorithm: str, parts: Iterable[bytes]) -> str:
    """The checksum of the parts' raw checksums one after the other, base64 (no ``-N``)."""
    if algorithm == HDFS:
        joined = b"".join(parts)
        # Hadoop takes it of a buffer that has grown by doubling.
        room = max(_HDFS_LEAST_BYTES, 1 << (len(joined) - 1).bit_length() if joined else 0)
        return digest_bytes(joined.ljust(room, b"\0"), ("md5",)).values["md5"]
    return digest_bytes(b"".join(parts), (algorithm,)).values[algorithm]


def composite_md5(parts: Sequence[bytes]) -> str:
    """The MD5 of the parts' raw MD5s as a tag has it: hex, a dash, the number of parts."""
    joined = hashlib.md5(b"".join(parts), usedforsecurity=False)
    return f"{joined.hexdigest()}-{len(parts)}"


def uniform_parts(size: int, first: int, count: int) -> tuple[int, ...] | None:
    """Sizes of ``count`` parts that are all as big as the first, but for a smaller last one.

    None if no such parts make up ``size`` bytes.
    """
    if count < 1 or first < 1:
        return None
    last = size - first * (count - 1)
    return (first,) * (count - 1) + (last,) if 0 < last <= first else None


def _views(
    path: str | os.PathLike[str], chunk_bytes: int, deadline: Deadline | None
) -> Iterator[memoryview]:
    """Chunks of a file, all in one buffer: each is gone when the next is asked for."""
    buffer = memoryview(bytearray(chunk_bytes))
    with Path(path).open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            if deadline is not None:
                deadline.check()
            yield buffer[:count]
