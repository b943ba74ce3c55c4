"""The container, asked directly: what it holds, and what it attests of it. Never through a mount.

Azure computes no checksum that a client could not have given instead: the Content-MD5 of a blob
made of blocks is its uploader's word, and that of every blob may be set afterwards. So the bytes
are read back; the tag tells whether they are still those that were.
"""

from __future__ import annotations

import base64
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from mountkit.errors import MountUnavailableError, VerificationError
from mountkit.store.az import errors
from mountkit.store.az.client import Connection
from mountkit.store.base import (
    CHUNK_BYTES,
    SMALL_OBJECT_BYTES,
    WORKERS,
    Attestation,
    Checksum,
    ObjectInfo,
    StoreFacts,
    Version,
)
from mountkit.timing import at_once

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from mountkit.spec import Source

# With it a data lake marks what is a directory.
FOLDER = "hdi_isfolder"


class AzStore(Connection):
    """A container on Azure Blob Storage; see :class:`mountkit.store.base.Store`.

    May be shared by threads. The tag of an object is its ETag.
    """

    rights: ClassVar[Mapping[str, str]] = errors.RIGHTS

    def at(self, source: Source) -> AzStore:
        """The same store at another place; the client is shared."""
        if source.bucket != self.source.bucket:
            return AzStore(source, self.options, patience=self.patience, deadline=self.deadline)
        return super().at(source)

    def list(self, prefix: str = "", *, markers: bool = False) -> Iterator[ObjectInfo]:
        """All objects below ``prefix``, sorted by key; one request per 5,000.

        With ``markers`` also what stands for a directory.
        """
        yield from sorted(self._listed(prefix, markers=markers), key=lambda info: info.path)

    def _listed(self, prefix: str, *, markers: bool) -> Iterator[ObjectInfo]:
        with self.translated("list", prefix):
            found = self.container().list_blobs(
                name_starts_with=self._below(prefix), include=["metadata"], **self.asking()
            )
            for blob in found:
                self.deadline.check()
                path = self._relative(blob.name)
                folder = (blob.metadata or {}).get(FOLDER) == "true"
                if folder:
                    path = f"{path.rstrip('/')}/"
                if path.endswith("/") and not blob.size and not markers:
                    continue
                yield ObjectInfo(path, int(blob.size), _tag(blob.etag), blob.last_modified)

    def directories(self, prefix: str = "") -> tuple[str, ...]:
        """The names (not paths) of the directories directly below ``prefix``, sorted."""
        below = self._below(prefix)
        with self.translated("list", prefix):
            found = self.container().walk_blobs(
                name_starts_with=below, delimiter="/", **self.asking()
            )
            names = {each.name for each in found if each.name.endswith("/")}
        return tuple(sorted({name[len(below) :].rstrip("/") for name in names} - {""}))

    def stat(self, path: str) -> Attestation | None:
        """What Azure says about an object, or None if it is not there. One request."""
        found = self._properties(path)
        return None if found is None else _attestation_of(found)

    def _properties(self, path: str) -> Any:
        with self.translated("attest", path):
            from azure.core.exceptions import ResourceNotFoundError

            try:
                found = self.blob(path).get_blob_properties(**self.asking())
            except ResourceNotFoundError as error:
                if errors.no_container(error):
                    raise
                return None
        return None if (found.metadata or {}).get(FOLDER) == "true" else found

    def part_sizes(self, path: str, attestation: Attestation) -> tuple[int, ...] | None:  # noqa: ARG002
        """No checksum of Azure's is of parts."""
        return None

    def chunks(self, path: str, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The bytes of an object in order, one request a chunk, all of one version.

        Raises
        ------
        ObjectMissingError
            If the object is not there.
        ObjectChangedError
            If it was replaced meanwhile.
        """
        with self.translated("read", path):
            found = self.blob(path).get_blob_properties(**self.asking())
        size = int(found.size)
        for start in range(0, size, chunk_bytes):
            length = min(chunk_bytes, size - start)
            data, _ = self._range(path, start, length, found.etag)
            if len(data) != length:
                raise MountUnavailableError(
                    f"The store sent {len(data)} of {length} bytes when {self.url(path)} was read.",
                    hint=f"Try again: mountkit doctor {self.source.url}",
                )
            yield data

    def _range(self, path: str, start: int, length: int, etag: str = "") -> tuple[bytes, Any]:
        """Some of the bytes of the version with that tag, and what is told with them."""
        with self.translated("read", path):
            from azure.core import MatchConditions

            same = {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}
            reading = self.blob(path).download_blob(
                offset=start, length=length, max_concurrency=1, **same, **self.asking()
            )
            data: bytes = reading.readall()
        return data, reading.properties

    def read(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> Version:
        """A small object as it is now, or that it is not there, by the store's own clock.

        Raises VerificationError if it has more than ``limit`` bytes.
        """
        heard = _Heard()
        with self.translated("read", path):
            from azure.core.exceptions import ResourceNotFoundError

            try:
                reading = self.blob(path).download_blob(
                    offset=0,
                    length=limit + 1,
                    max_concurrency=1,
                    raw_response_hook=heard,
                    **self.asking(),
                )
                data: bytes = reading.readall()
            except ResourceNotFoundError as error:
                if errors.no_container(error):
                    raise
                return Version(None, "", None, _date(getattr(error.response, "headers", {})))
        if len(data) > limit:
            raise VerificationError(
                f"{self.url(path)} is bigger than {limit} bytes, which is too big for what it is.",
                hint="See what it is: az storage blob show --name " + self.source.key(path),
            )
        told = reading.properties
        return Version(data, _tag(told.etag), told.last_modified, heard.date)

    def put(self, path: str, data: bytes) -> None:
        """Write a small object in one request; Azure checks its MD5 on arrival."""
        with self.translated("write", path):
            self.blob(path).upload_blob(
                data, overwrite=True, validate_content=True, **self.asking()
            )

    def put_if(self, path: str, data: bytes, *, tag: str | None) -> Version | None:
        """Write a small object only in the place of the one with that tag, or, for None, of none.

        By ``If-Match`` and ``If-None-Match``, which Azure always compares.
        """
        with self.translated("write", path):
            from azure.core import MatchConditions
            from azure.core.exceptions import HttpResponseError

            same = (
                {"overwrite": False}
                if tag is None
                else {
                    "overwrite": True,
                    "etag": f'"{tag}"',
                    "match_condition": MatchConditions.IfNotModified,
                }
            )
            try:
                told = self.blob(path).upload_blob(
                    data, validate_content=True, **same, **self.asking()
                )
            except HttpResponseError as error:
                status = errors.status_of(error)
                if status in {errors.HTTP_PRECONDITION, errors.HTTP_CONFLICT}:
                    return None
                if status == errors.HTTP_MISSING and tag and not errors.no_container(error):
                    return None
                raise
        return Version(data, _tag(told["etag"]), told["last_modified"], told["date"])

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects, one request each; one that is not there is no error.

        Raises PermissionDeniedError if the store refuses one, which is named.
        """
        wanted = sorted((path.rstrip("/") for path in paths), reverse=True)
        with at_once(WORKERS, "delete") as pool:
            for _ in pool.map(self._delete, wanted):
                pass

    def _delete(self, path: str) -> None:
        with self.translated("delete", path):
            from azure.core.exceptions import ResourceNotFoundError

            try:
                self.blob(path).delete_blob(delete_snapshots="include", **self.asking())
            except ResourceNotFoundError as error:
                if errors.no_container(error):
                    raise

    def abort_uploads(self) -> None:
        """Azure drops the blocks of what broke off by itself, after a week."""

    def check(self, *, write: bool = True, seconds: float = 6.0) -> StoreFacts:
        """Try everything a save will need, and say what is wrong, within ``seconds``."""
        from mountkit.store import access_check

        return access_check.check(self, write=write, seconds=seconds)


class _Heard:
    """What an answer says of the time."""

    def __init__(self) -> None:
        self.date: datetime | None = None

    def __call__(self, answer: Any) -> None:
        self.date = _date(answer.http_response.headers)


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers.get("Date") or headers.get("date") or "")
    except (TypeError, ValueError):
        return None


def _tag(etag: Any) -> str:
    return str(etag or "").strip('"')


def _attestation_of(found: Any) -> Attestation:
    """What Azure says of a blob. Its MD5 may be anybody's: see above."""
    md5 = bytes(found.content_settings.content_md5 or b"")
    told = (Checksum("md5", base64.b64encode(md5).decode(), by="client"),) if md5 else ()
    return Attestation(
        size=int(found.size),
        tag=_tag(found.etag),
        checksums=told,
        metadata=MappingProxyType(
            {name.lower(): value for name, value in (found.metadata or {}).items()}
        ),
        modified=found.last_modified,
    )
