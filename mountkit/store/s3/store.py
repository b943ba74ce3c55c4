"""The bucket, asked directly: what it holds, and what it attests of it. Never through a mount.

Nothing of boto3 is loaded before the first request (see ``client``).
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from mountkit.errors import VerificationError
from mountkit.store import checksums
from mountkit.store.base import (
    CHUNK_BYTES,
    SMALL_OBJECT_BYTES,
    Attestation,
    ObjectInfo,
    StoreFacts,
    Version,
)
from mountkit.store.s3 import conditional, error_codes, errors, object_reader
from mountkit.store.s3.client import Connection
from mountkit.store.s3.head_object import attestation_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mypy_boto3_s3 import S3Client


BATCH = 1000

# Stores that have no batched deletion say so with one of these.
_NO_BATCH_DELETE = frozenset(
    {"MissingContentMD5", "NotImplemented", "MethodNotAllowed", "UnsupportedOperation"}
)


class S3Store(Connection):
    """A bucket on S3, or on a store that speaks its protocol. May be shared by threads.

    Every method raises what ``errors.translate`` makes of a failure: ConfigurationError,
    PermissionDeniedError, MountUnavailableError or VerificationError. TimeUpError once the
    ``deadline`` has passed, also between the pages of a listing and the chunks of an object.
    """

    def list(self, prefix: str = "", *, markers: bool = False) -> Iterator[ObjectInfo]:
        """All objects below ``prefix``, sorted by key; one request per 1,000.

        Parameters
        ----------
        prefix:
            A directory: ``checkpoint-1`` does not match ``checkpoint-10/x``.
        markers:
            Also the empty objects whose keys end in a slash, which stand for directories.
        """
        below = self._below(prefix)
        with self.translated("list", prefix):
            pages = self.client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.source.bucket, Prefix=below):
                self.deadline.check()
                for item in page.get("Contents", ()):
                    if item["Key"].endswith("/") and not item["Size"] and not markers:
                        continue
                    yield ObjectInfo(
                        self._relative(item["Key"]),
                        item["Size"],
                        item.get("ETag", "").strip('"'),
                        item["LastModified"],
                    )

    def directories(self, prefix: str = "") -> tuple[str, ...]:
        """The names (not paths) of the directories directly below ``prefix``, sorted."""
        below = self._below(prefix)
        names: set[str] = set()
        with self.translated("list", prefix):
            pages = self.client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.source.bucket, Prefix=below, Delimiter="/"):
                for item in page.get("CommonPrefixes", ()):
                    names.add(item["Prefix"][len(below) :].rstrip("/"))
        return tuple(sorted(names - {""}))

    def stat(self, path: str) -> Attestation | None:
        """What the store says about an object, or None if it is not there. One request."""
        with self.translated("attest", path):
            try:
                response = self.client().head_object(
                    Bucket=self.source.bucket, Key=self.source.key(path), ChecksumMode="ENABLED"
                )
            except self.client().exceptions.ClientError as error:
                if errors.status_of(error) == error_codes.HTTP_MISSING:
                    return None
                raise
        return attestation_of(response)

    def part_sizes(self, path: str, attestation: Attestation) -> tuple[int, ...] | None:
        """The sizes of an object's parts in bytes, or None if the store cannot say.

        The first part's size settles all of them where parts are uniform, which is how every client
        here uploads. Only where that does not add up is the list of parts asked for.
        """
        if attestation.parts is None:
            return (attestation.size,)
        key = self.source.key(path)
        with self.translated("attest", path):
            client = self.client(quick=True)
            try:
                first = client.head_object(Bucket=self.source.bucket, Key=key, PartNumber=1)
                if first.get("PartsCount") == attestation.parts:
                    sizes = checksums.uniform_parts(
                        attestation.size, first["ContentLength"], attestation.parts
                    )
                    if sizes:
                        return sizes
                sizes = self._listed_parts(client, key)
            except client.exceptions.ClientError:
                # A store that cannot say is no failure: the next rung of the ladder needs no parts.
                return None
        agree = len(sizes) == attestation.parts and sum(sizes) == attestation.size
        return sizes if agree else None

    def _listed_parts(self, client: S3Client, key: str) -> tuple[int, ...]:
        sizes: tuple[int, ...] = ()
        marker = 0
        while True:
            answer = client.get_object_attributes(
                Bucket=self.source.bucket,
                Key=key,
                ObjectAttributes=["ObjectParts"],
                MaxParts=BATCH,
                PartNumberMarker=marker,
            ).get("ObjectParts", {})
            sizes += tuple(part["Size"] for part in answer.get("Parts", ()))
            following = answer.get("NextPartNumberMarker", 0)
            if not answer.get("IsTruncated") or following <= marker:
                return sizes
            marker = following

    def chunks(self, path: str, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The bytes of an object in order, in one request that is taken up where it breaks.

        At most ``chunk_bytes`` bytes are in memory.

        Raises
        ------
        ObjectMissingError
            If the object is not there.
        ObjectChangedError
            If it broke off, and was replaced before it could be taken up.
        """
        return object_reader.chunks(self, path, chunk_bytes)

    def read(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> Version:
        """A small object as it is now, or that it is not there, by the store's own clock.

        Raises VerificationError if it has more than ``limit`` bytes.
        """
        with self.translated("read", path):
            try:
                response = self.client().get_object(
                    Bucket=self.source.bucket, Key=self.source.key(path)
                )
            except self.client().exceptions.ClientError as error:
                if errors.error_code(error) in {"NoSuchKey", "404"}:
                    return Version(None, "", None, conditional.date_of(error.response))
                raise
            with closing(response["Body"]) as body:
                data = object_reader.read(body, limit + 1, self.deadline)
        if len(data) > limit:
            raise VerificationError(
                f"{self.url(path)} is bigger than {limit} bytes, which is too big for what it is.",
                hint=f"See what it is: aws s3 cp {self.url(path)} - | head -c 200",
            )
        tag = str(response.get("ETag", "")).strip('"')
        return Version(data, tag, response.get("LastModified"), conditional.date_of(response))

    def put(self, path: str, data: bytes) -> None:
        """Write a small object in one request; the store checks its MD5 on arrival."""
        with self.translated("write", path):
            self.client().put_object(
                Bucket=self.source.bucket,
                Key=self.source.key(path),
                Body=data,
                ContentMD5=conditional.md5(data),
            )

    def put_if(self, path: str, data: bytes, *, tag: str | None) -> Version | None:
        """Write a small object only in the place of the one with that tag, or, for None, of none.

        See ``conditional.put_if``.
        """
        return conditional.put_if(self, path, data, tag)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects, 1,000 a request; one that is not there is no error.

        Raises
        ------
        PermissionDeniedError
            If the store refuses one, which is named.
        """
        wanted = tuple(paths)
        for start in range(0, len(wanted), BATCH):
            self._delete_batch(wanted[start : start + BATCH])

    def _delete_batch(self, paths: tuple[str, ...]) -> None:
        client = self.client()
        with self.translated("delete", paths[0]):
            try:
                answer = client.delete_objects(
                    Bucket=self.source.bucket,
                    Delete={
                        "Objects": [{"Key": self.source.key(path)} for path in paths],
                        "Quiet": True,
                    },
                )
            except client.exceptions.ClientError as error:
                if errors.error_code(error) not in _NO_BATCH_DELETE:
                    raise
                for path in paths:
                    client.delete_object(Bucket=self.source.bucket, Key=self.source.key(path))
                return
        for refused in answer.get("Errors", ()):
            details: Any = {"Error": {**refused}, "ResponseMetadata": {}}
            with self.translated("delete", self._relative(refused.get("Key", ""))):
                raise client.exceptions.ClientError(details, "DeleteObjects")

    def abort_uploads(self) -> None:
        """Abort the uploads that broke off below the source; their parts are paid for."""
        bucket, client = self.source.bucket, self.client()
        with self.translated("abort an upload to"):
            pages = client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=bucket, Prefix=self._below("")):
                for upload in page.get("Uploads", ()):
                    client.abort_multipart_upload(
                        Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

    def check(self, *, write: bool = True, seconds: float = 6.0) -> StoreFacts:
        """Try everything a save will need, and say what is wrong, within ``seconds``.

        See ``access_check.check``.
        """
        from mountkit.store.s3 import access_check

        return access_check.check(self, write=write, seconds=seconds)
