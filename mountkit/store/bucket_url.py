"""URLs of the form ``scheme://bucket/prefix``."""

from __future__ import annotations

from mountkit.errors import UsageError
from mountkit.spec import Source


def parse(url: str, *, credentials: str, example: str) -> Source:
    """Read one; ``credentials`` says where those are given instead, ``example`` how a URL looks.

    Raises UsageError if it names no bucket, carries credentials, or has a path with dots.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket:
        raise UsageError(
            "The source URL carries credentials; they would end up in logs.",
            hint=f"Give them as {credentials}",
        )
    if not bucket:
        raise UsageError(f"{url!r} names no bucket.", hint=example)
    return Source(scheme, bucket, prefix_of(url, prefix, example))


def prefix_of(url: str, path: str, example: str) -> str:
    """The path of a URL without slashes too many.

    Raises UsageError if it has dots that lead elsewhere.
    """
    segments = [segment for segment in path.split("/") if segment]
    if any(segment in {".", ".."} for segment in segments):
        raise UsageError(f"{url!r} has '.' or '..' in its path.", hint=example)
    return "/".join(segments)
