"""The bucket, asked directly: what it holds, and what it attests of it. Never through a mount.

Google computes a CRC32C of every whole object, also of one that was uploaded in pieces or composed,
and a listing tells it.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from mountkit.errors import MountUnavailableError, VerificationError
from mountkit.store import checksums
from mountkit.store.base import (
    CHUNK_BYTES,
    SMALL_OBJECT_BYTES,
    WORKERS,
    Attestation,
    Checksum,
    ObjectChangedError,
    ObjectInfo,
    StoreFacts,
    Version,
)
from mountkit.store.gs import errors
from mountkit.store.gs.client import Connection
from mountkit.timing import at_once

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime


PAGE = 1000
READ_ATTEMPTS = 3
CONTENT_TYPE = "application/octet-stream"
# Fewer are asked for one by one: a listing also tells of what was not asked for.
LISTED_TOGETHER = 4
# A generation is the microsecond an object was written in: no object has this one.
NO_GENERATION = 1


@dataclass(frozen=True, slots=True)
class _Page:
    """A page of a listing, and the token of the one that follows."""

    blobs: tuple[Any, ...]
    prefixes: tuple[str, ...]
    following: str | None


class GSStore(Connection):
    """A bucket on Google Cloud Storage. May be shared by threads.

    The tag of an object is its generation. Every method raises what ``errors.translate`` makes of a
    failure, and TimeUpError once the ``deadline`` has passed, also between the pages of a listing
    and the chunks of an object.
    """

    rights: ClassVar[Mapping[str, str]] = errors.RIGHTS
    lists_checksums: ClassVar[bool] = True

    def list(self, prefix: str = "", *, markers: bool = False) -> Iterator[ObjectInfo]:
        """All objects below ``prefix``, sorted by key; one request per 1,000.

        With ``markers`` also the empty objects whose keys end in a slash.
        """
        for page in self._pages(prefix):
            for blob in page.blobs:
                if blob.name.endswith("/") and not blob.size and not markers:
                    continue
                yield ObjectInfo(
                    self._relative(blob.name), blob.size, str(blob.generation), blob.time_created
                )

    def directories(self, prefix: str = "") -> tuple[str, ...]:
        """The names (not paths) of the directories directly below ``prefix``, sorted."""
        cut = len(self._below(prefix))
        names: set[str] = set()
        for page in self._pages(prefix, delimiter="/"):
            names.update(found[cut:].rstrip("/") for found in page.prefixes)
        return tuple(sorted(names - {""}))

    def _pages(self, prefix: str, **narrower: Any) -> Iterator[_Page]:
        """The pages of a listing, each with its objects already there."""
        token: str | None = None
        while True:
            with self.translated("list", prefix):
                bucket = self.bucket()
                answer = bucket.client.list_blobs(
                    bucket,
                    prefix=self._below(prefix),
                    max_results=PAGE,
                    page_token=token,
                    **narrower,
                    **self.asking(),
                )
                page = _Page(tuple(answer), tuple(answer.prefixes), answer.next_page_token)
            yield page
            token = page.following
            if not token:
                return

    def stat(self, path: str) -> Attestation | None:
        """What Google says about an object, or None if it is not there. One request."""
        blob = self._looked_up(path)
        return _attestation_of(blob) if blob is not None else None

    def _looked_up(self, path: str) -> Any:
        with self.translated("attest", path):
            from google.api_core.exceptions import NotFound

            blob = self.blob(path)
            try:
                blob.reload(**self.asking())
            except NotFound as error:
                if errors.names_no_bucket(error):
                    raise
                return None
        return blob

    def stat_many(
        self, paths: Iterable[str], workers: int = WORKERS
    ) -> Mapping[str, Attestation | None]:
        """What Google says about many objects: a listing for those of one directory."""
        wanted = tuple(dict.fromkeys(paths))
        by_directory: dict[str, list[str]] = {}
        for path in wanted:
            by_directory.setdefault(path.rpartition("/")[0], []).append(path)
        together = [many for many in by_directory.values() if len(many) >= LISTED_TOGETHER]
        alone = [path for few in by_directory.values() if few not in together for path in few]
        found: dict[str, Attestation | None] = {}
        with at_once(workers, "attest") as pool:
            for seen in pool.map(self._stat_listed, together):
                found.update(seen)
            found.update(zip(alone, pool.map(self.stat, alone), strict=True))
        return {path: found.get(path) for path in wanted}

    def _stat_listed(self, paths: Sequence[str]) -> Mapping[str, Attestation]:
        """Those of one directory that are there; its own directories are left out."""
        directory = paths[0].rpartition("/")[0]
        keys = sorted(self.source.key(path) for path in paths)
        pages = self._pages(
            directory,
            delimiter="/",
            start_offset=keys[0],
            # The first one that is not listed any more.
            end_offset=f"{keys[-1]}\0",
        )
        wanted = set(keys)
        return {
            self._relative(blob.name): _attestation_of(blob)
            for page in pages
            for blob in page.blobs
            if blob.name in wanted
        }

    def part_sizes(self, path: str, attestation: Attestation) -> tuple[int, ...] | None:  # noqa: ARG002
        """All in one: no checksum of Google's is of parts."""
        return (attestation.size,)

    def chunks(self, path: str, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The bytes of an object in order, one request a chunk, all of one generation.

        Raises
        ------
        ObjectMissingError
            If the object is not there.
        ObjectChangedError
            If it was replaced meanwhile.
        """
        with self.translated("read", path):
            blob = self.blob(path)
            blob.reload(**self.asking())
            size, generation = int(blob.size or 0), int(blob.generation)
        for start in range(0, size, chunk_bytes):
            yield self._range(path, generation, start, min(chunk_bytes, size - start))

    def _range(self, path: str, generation: int, start: int, length: int) -> bytes:
        with self.translated("read", path):
            data: bytes = self.blob(path).download_as_bytes(
                start=start,
                end=start + length - 1,
                # As they are stored, also where a client said that they are compressed.
                raw_download=True,
                if_generation_match=generation,
                # Of a range there is none to compare.
                checksum=None,
                **self.asking(),
            )
            # Some stores ignore the condition.
            told = self.session.heard().get("x-goog-generation", str(generation))
        if told != str(generation):
            raise ObjectChangedError(
                f"{self.url(path)} was replaced while it was being read.",
                hint=f"See who else writes there, then: mountkit verify {self.source.url}",
            )
        if len(data) != length:
            raise MountUnavailableError(
                f"The store sent {len(data)} of {length} bytes when {self.url(path)} was read.",
                hint=f"Try again: mountkit doctor {self.source.url}",
            )
        return data

    def read(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> Version:
        """A small object as it is now, or that it is not there, by the store's own clock.

        Raises VerificationError if it has more than ``limit`` bytes.
        """
        attempt = 1
        while True:
            blob = self._looked_up(path)
            if blob is None:
                return Version(None, "", None, self._date())
            size = int(blob.size or 0)
            if size > limit:
                raise VerificationError(
                    f"{self.url(path)} is bigger than {limit} bytes, which is too big for what it "
                    "is.",
                    hint=f"See what it is: gcloud storage cat --range=0-200 {self.url(path)}",
                )
            try:
                data = self._range(path, int(blob.generation), 0, size) if size else b""
            except VerificationError:
                # It was replaced or deleted since it was looked up.
                if attempt == READ_ATTEMPTS:
                    raise
                attempt += 1
            else:
                return Version(data, str(blob.generation), blob.time_created, self._date())

    def put(self, path: str, data: bytes) -> None:
        """Write a small object in one request; Google checks its CRC32C on arrival."""
        with self.translated("write", path):
            self.blob(path).upload_from_string(
                data, CONTENT_TYPE, checksum="crc32c", **self.asking()
            )

    def put_if(self, path: str, data: bytes, *, tag: str | None) -> Version | None:
        """Write a small object only in the place of the one with that tag, or, for None, of none.

        By its generation, which Google always compares.
        """
        generation = 0 if tag is None else _generation(tag)
        with self.translated("write", path):
            from google.api_core.exceptions import GoogleAPICallError

            blob = self.blob(path)
            try:
                blob.upload_from_string(
                    data,
                    CONTENT_TYPE,
                    checksum="crc32c",
                    if_generation_match=generation,
                    **self.asking(),
                )
            except GoogleAPICallError as error:
                # A conflict: another write of the same object was under way.
                if errors.status_of(error) in {errors.HTTP_PRECONDITION, errors.HTTP_CONFLICT}:
                    return None
                missing = errors.status_of(error) == errors.HTTP_MISSING
                if missing and tag is not None and not errors.names_no_bucket(error):
                    return None
                raise
            return Version(data, str(blob.generation), blob.time_created, self._date())

    def _date(self) -> datetime | None:
        """When the last answer to this thread was given, by the store's own clock."""
        try:
            return parsedate_to_datetime(self.session.heard().get("date", ""))
        except (TypeError, ValueError):
            return None

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects, one request each; one that is not there is no error.

        Raises PermissionDeniedError if the store refuses one, which is named.
        """
        with at_once(WORKERS, "delete") as pool:
            for _ in pool.map(self._delete, tuple(paths)):
                pass

    def _delete(self, path: str) -> None:
        with self.translated("delete", path):
            from google.api_core.exceptions import NotFound

            try:
                self.blob(path).delete(**self.asking())
            except NotFound as error:
                if errors.names_no_bucket(error):
                    raise

    def abort_uploads(self) -> None:
        """Google drops what broke off by itself, after a week, and has it not paid for."""

    def check(self, *, write: bool = True, seconds: float = 6.0) -> StoreFacts:
        """Try everything a save will need, and say what is wrong, within ``seconds``."""
        from mountkit.store import access_check

        return access_check.check(self, write=write, seconds=seconds)


def _generation(tag: str) -> int:
    """The generation that a tag is; of any other word one that no object has."""
    digits = tag.isascii() and tag.isdigit()
    return (int(tag) if digits else 0) or NO_GENERATION


def _attestation_of(blob: Any) -> Attestation:
    """What Google's object says; a checksum of the wrong length for its kind is left out."""
    told = [
        Checksum(algorithm, value)
        for algorithm, value in (("crc32c", blob.crc32c), ("md5", blob.md5_hash))
        if value and checksums.decode(value, algorithm) is not None
    ]
    return Attestation(
        size=int(blob.size or 0),
        tag=str(blob.generation),
        checksums=tuple(told),
        metadata=MappingProxyType(
            {name.lower(): value for name, value in (blob.metadata or {}).items()}
        ),
        modified=blob.time_created,
    )
