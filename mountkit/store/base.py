"""What a store is: its protocol, and the values it answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mountkit.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from mountkit.spec import Source

CHUNK_BYTES = 8 * 1024 * 1024

MIB = 1024 * 1024
SMALL_OBJECT_BYTES = 64 * MIB
WORKERS = 16


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as a listing shows it.

    ``path`` is relative to the source, ``size`` in bytes, ``etag`` without quotes, ``modified``
    with a time zone.
    """

    path: str
    size: int
    etag: str
    modified: datetime


class Store(Protocol):
    """What the rest of mountkit asks of a store. Paths are relative to ``source``."""

    @property
    def source(self) -> Source:
        """The place all paths are relative to."""
        ...

    def list(self, prefix: str = "", *, markers: bool = False) -> Iterator[ObjectInfo]:
        """All objects below a directory, sorted by key."""
        ...

    def directories(self, prefix: str = "") -> tuple[str, ...]:
        """The names of the directories directly below a directory."""
        ...

    def attest(self, path: str) -> Attestation | None:
        """What the store says about an object, or None if it is not there."""
        ...

    def attest_many(
        self, paths: Iterable[str], workers: int = WORKERS
    ) -> Mapping[str, Attestation | None]:
        """The same for many objects at a time."""
        ...

    def part_sizes(self, path: str, attestation: Attestation) -> tuple[int, ...] | None:
        """The sizes of an object's parts in bytes, or None if the store cannot say."""
        ...

    def chunks(self, path: str, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The bytes of an object, read back in order."""
        ...

    def get(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> bytes | None:
        """The bytes of a small object, or None if it is not there."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Write a small object."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; one that is not there is no error."""
        ...


@dataclass(frozen=True, slots=True)
class Attestation:
    """What the store itself says about one object.

    ``checksums`` are base64 by algorithm, of the whole object, or where ``composite`` is set, of
    the checksums of its parts. ``parts`` is None for an object uploaded in one piece.
    ``etag_is_md5`` is False where encryption makes the ETag something else. ``metadata`` is what
    whoever uploaded it has noted beside it, its names in lower case;
    ``modified`` is when, by the store's clock.
    """

    size: int
    etag: str
    checksums: Mapping[str, str] = field(default_factory=dict)
    composite: bool = False
    parts: int | None = None
    etag_is_md5: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
    modified: datetime | None = None


class ObjectMissingError(VerificationError):
    """An object that was read is not in the bucket (any more)."""


class ObjectChangedError(VerificationError):
    """An object was replaced while it was being read."""
