"""The bytes of an object, read back from the store by ranged requests."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

from mountkit import store_codes, store_errors
from mountkit.errors import MountUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.response import StreamingBody
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

    from mountkit.s3client import Connection

CHUNK_BYTES = 8 * 1024 * 1024
CHUNKS_AHEAD = 2
READ_ATTEMPTS = 4
READ_RETRY_SECONDS = 120.0


def chunks(connection: Connection, path: str, chunk_bytes: int) -> Iterator[bytes]:
    """The bytes of an object in order; see ``S3Store.chunks``."""
    try:
        first, data = _range(connection, path, 0, chunk_bytes, "")
    except _EmptyObjectError:
        return
    yield data
    total = int(first.get("ContentRange", "").rpartition("/")[2] or len(data))
    offsets = iter(range(len(data), total, chunk_bytes))
    etag = first.get("ETag", "")
    pending: deque[Any] = deque()
    pool = ThreadPoolExecutor(max_workers=CHUNKS_AHEAD, thread_name_prefix="read-back")
    try:
        while True:
            while len(pending) < CHUNKS_AHEAD and (at := next(offsets, None)) is not None:
                pending.append(pool.submit(_range, connection, path, at, chunk_bytes, etag))
            if not pending:
                return
            yield pending.popleft().result()[1]
    finally:
        pool.shutdown(cancel_futures=True)


def _range(
    connection: Connection, path: str, start: int, length: int, etag: str
) -> tuple[GetObjectOutputTypeDef, bytes]:
    """One range of an object.

    boto3 repeats a request that fails, but not one whose answer breaks off: that is done here.
    """
    import stamina
    from botocore import exceptions as known

    transient = (
        known.IncompleteReadError,
        known.ReadTimeoutError,
        known.ResponseStreamingError,
    )
    key = connection.source.key(path)
    condition: Any = {"IfMatch": etag} if etag else {}
    with connection.translated("read", path):
        for attempt in stamina.retry_context(
            on=transient, attempts=READ_ATTEMPTS, timeout=READ_RETRY_SECONDS
        ):
            with attempt:
                try:
                    response = connection.client().get_object(
                        Bucket=connection.source.bucket,
                        Key=key,
                        Range=f"bytes={start}-{start + length - 1}",
                        **condition,
                    )
                except connection.client().exceptions.ClientError as error:
                    if store_errors.status_of(error) == store_codes.HTTP_RANGE and not start:
                        raise _EmptyObjectError from error
                    raise
                # A store may ignore the condition, and one that ignores ranges sends it all.
                _same(connection, path, etag, response.get("ETag", ""))
                with closing(response["Body"]) as body:
                    data = read(body, length + 1)
                if len(data) > length:
                    raise MountUnavailableError(
                        f"The store ignores byte ranges, so {connection.url(path)} cannot be read "
                        "back piece by piece.",
                        hint="Use a store that serves ranges; S3 does.",
                    )
                return response, data
    raise AssertionError  # pragma: no cover - retry_context returns or raises


def _same(connection: Connection, path: str, before: str, now: str) -> None:
    if before and now and before.strip('"') != now.strip('"'):
        raise store_errors.ObjectChangedError(
            f"{connection.url(path)} was replaced while it was being read.",
            hint=f"See who else writes there, then: mountkit verify {connection.source.url}",
        )


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


class _EmptyObjectError(Exception):
    """A range of an empty object was asked for."""
