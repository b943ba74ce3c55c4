"""The bytes of an object, read back in one stream that is taken up where it broke."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from mountkit.errors import MountUnavailableError
from mountkit.store import base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.response import StreamingBody

    from mountkit.store.s3.client import Connection

READ_ATTEMPTS = 4
READ_RETRY_SECONDS = 120.0


def chunks(connection: Connection, path: str, chunk_bytes: int) -> Iterator[bytes]:
    """The bytes of an object in order; see ``S3Store.chunks``."""
    with closing(_Reading(connection, path)) as reading:
        while piece := reading.read(chunk_bytes):
            yield piece


class _Reading:
    """One object being read.

    A single request, and not one for each range: a store that makes an ETag out of the content may
    hash the whole object for every request it answers.
    """

    def __init__(self, connection: Connection, path: str) -> None:
        self._connection = connection
        self._path = path
        self._offset = 0
        self._etag = ""
        self._body: StreamingBody | None = None

    def read(self, length: int) -> bytes:
        """The next bytes, at most ``length``; none at the end.

        boto3 repeats a request that fails, but not one whose answer breaks off: that is done here.
        """
        import stamina
        from botocore import exceptions as known

        broken = (
            known.IncompleteReadError,
            known.ReadTimeoutError,
            known.ResponseStreamingError,
        )
        piece = b""
        self._connection.deadline.check()
        with self._connection.translated("read", self._path):
            for attempt in stamina.retry_context(
                on=broken, attempts=READ_ATTEMPTS, timeout=READ_RETRY_SECONDS
            ):
                with attempt:
                    try:
                        if self._body is None:
                            self._body = self._open()
                        piece = self._body.read(length)
                    except broken:
                        self.close()
                        raise
        self._offset += len(piece)
        return piece

    def close(self) -> None:
        """Give the request up, if one is under way."""
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def _open(self) -> StreamingBody:
        rest: Any = {}
        if self._offset:
            rest["Range"] = f"bytes={self._offset}-"
            if self._etag:
                rest["IfMatch"] = self._etag
        response = self._connection.client().get_object(
            Bucket=self._connection.source.bucket,
            Key=self._connection.source.key(self._path),
            **rest,
        )
        # Some stores ignore the condition, and some the range.
        etag = response.get("ETag", "")
        if self._offset and etag != self._etag:
            raise base.ObjectChangedError(
                f"{self._connection.url(self._path)} was replaced while it was being read.",
                hint="See who else writes there, then: mountkit verify "
                f"{self._connection.source.url}",
            )
        if self._offset and not response.get("ContentRange", "").startswith(
            f"bytes {self._offset}-"
        ):
            raise MountUnavailableError(
                f"The store broke off while {self._connection.url(self._path)} was read, and it "
                "cannot send the rest, because it ignores byte ranges.",
                hint="Try again, or use a store that serves ranges; S3 does.",
            )
        self._etag = etag
        return response["Body"]


def read(body: StreamingBody, most: int) -> bytes:
    """Read to the end, or ``most`` bytes.

    The end has to be seen: a body that broke off reads short without an error until then. And it
    has to be botocore's body: as a context manager it gives the raw stream, which never checks.
    """
    pieces = []
    room = most
    while room and (piece := body.read(room)):
        pieces.append(piece)
        room -= len(piece)
    return b"".join(pieces)
