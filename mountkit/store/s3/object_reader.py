"""The bytes of an object, read back in one stream that is taken up where it broke."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

from mountkit.errors import MountUnavailableError
from mountkit.store import base
from mountkit.timing import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.response import StreamingBody

    from mountkit.store.s3.client import Connection

READ_ATTEMPTS = 4
READ_RETRY_SECONDS = 120.0
READ_PAUSE_SECONDS = 5.0
PIECE_BYTES = 64 * 1024


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
        deadline = self._connection.deadline
        pieces: list[bytes] = []
        deadline.check()
        with self._connection.translated("read", self._path):
            for attempt in stamina.retry_context(
                on=broken,
                attempts=READ_ATTEMPTS,
                timeout=deadline.cut(READ_RETRY_SECONDS),
                wait_max=deadline.cut(READ_PAUSE_SECONDS),
            ):
                with attempt:
                    try:
                        if self._body is None:
                            self._body = self._open()
                        for piece in _pieces(self._body, length, deadline):
                            pieces.append(piece)
                            self._offset += len(piece)
                    except broken:
                        self.close()
                        # Nobody waits for another try once the time is up.
                        deadline.check()
                        # The rest is asked for by the next read.
                        if not pieces:
                            raise
        return b"".join(pieces)

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


def read(body: StreamingBody, most: int, deadline: Deadline | None = None) -> bytes:
    """Read to the end, or ``most`` bytes; no longer than until ``deadline``.

    The end has to be seen: a body that broke off reads short without an error until then. And it
    has to be botocore's body: as a context manager it gives the raw stream, which never checks.
    """
    return b"".join(_pieces(body, most, deadline or Deadline()))


def _pieces(body: StreamingBody, length: int, deadline: Deadline) -> Iterator[bytes]:
    """The next bytes, at most ``length``; none at the end.

    In small pieces: of a store that sends a few bytes now and then, one read of megabytes takes as
    long as it likes. None of them waits for more than a part of the time that is left.
    """
    room = length
    while room:
        deadline.check()
        _hurry(body, deadline)
        piece = body.read(min(room, PIECE_BYTES))
        if not piece:
            return
        room -= len(piece)
        yield piece


def _hurry(body: StreamingBody, deadline: Deadline) -> None:
    """Wait less long for an answer that was begun when there was more time."""
    left = deadline.left
    connection = _socket_of(body) if left is not None else None
    if left is None or connection is None:
        return
    limit = deadline.cut(left)
    now = connection.gettimeout()
    if now is None or now > limit:
        connection.settimeout(limit)


def _socket_of(body: StreamingBody) -> socket.socket | None:
    """The connection that an answer comes from; None once all of it is here.

    The way botocore's ``StreamingBody.set_socket_timeout`` takes, which fails at the end.
    """
    found: Any = body
    for name in ("_raw_stream", "_fp", "fp", "raw", "_sock"):
        found = getattr(found, name, None)
    return found if isinstance(found, socket.socket) else None
