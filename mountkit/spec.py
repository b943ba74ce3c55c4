"""Frozen values that the other modules hand to each other. No I/O."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from mountkit.errors import UsageError

# Enough for the optimizer of a model of 12 billion parameters in one file.
LARGEST_FILE_BYTES = 150_000_000_000

PLANNED_SCHEMES = frozenset({"gs", "az", "abfs", "adl", "hdfs", "file", "rclone"})


@dataclass(frozen=True, slots=True)
class Source:
    """A place in a bucket: ``s3://bucket/prefix``.

    ``prefix`` has no slash at either end; it is empty for the whole bucket.
    """

    scheme: str
    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Source:
        """Read a URL such as ``s3://bucket/run-1``.

        Raises
        ------
        UsageError
            If it is no URL, names no bucket, or has a scheme that is not supported.
        """
        example = "Give a URL such as s3://my-bucket/run-1."
        scheme, separator, rest = url.partition("://")
        if not separator or not scheme:
            raise UsageError(f"{url!r} is not a URL.", hint=example)
        if scheme in PLANNED_SCHEMES:
            raise UsageError(
                f"{scheme}:// is not supported yet; only s3:// is (in {url!r}).", hint=example
            )
        if scheme != "s3":
            raise UsageError(
                f"{scheme}:// in {url!r} is not a scheme mountkit knows.", hint=example
            )
        if "@" in rest.partition("/")[0]:
            raise UsageError(
                "The source URL carries credentials; they would end up in logs.",
                hint="Give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or with --profile.",
            )
        bucket, _, prefix = rest.partition("/")
        if not bucket:
            raise UsageError(f"{url!r} names no bucket.", hint=example)
        segments = [segment for segment in prefix.split("/") if segment]
        if any(segment in {".", ".."} for segment in segments):
            raise UsageError(f"{url!r} has '.' or '..' in its path.", hint=example)
        return cls(scheme, bucket, "/".join(segments))

    @property
    def url(self) -> str:
        """The URL, without a slash at the end."""
        tail = f"/{self.prefix}" if self.prefix else ""
        return f"{self.scheme}://{self.bucket}{tail}"

    def key(self, path: str) -> str:
        """The object key of a ``/``-separated path below this source ("" for the source)."""
        return "/".join(part for part in (self.prefix, path) if part)

    def child(self, path: str) -> Source:
        """The source one or more levels further down."""
        return Source(self.scheme, self.bucket, self.key(path))


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How the store is reached. Credentials are never here: they stay in the environment."""

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class MountSpec:
    """What to mount where.

    ``target`` is an absolute path with the symbolic links of its parents resolved. ``cache_dir``
    is the directory that holds files on their way to the store, this mount's own. ``largest_file``
    is the size in bytes that a single file is expected not to exceed. ``why`` says why ``auto``
    chose the backend; it is empty if the user did.
    """

    source: Source
    target: str
    backend: str
    store: StoreOptions
    cache_dir: str
    options: tuple[tuple[str, str], ...] = field(default=())
    largest_file: int = LARGEST_FILE_BYTES
    why: str = ""

    @property
    def how(self) -> str:
        """The backend, and why it was chosen if nobody asked for it."""
        return f"{self.backend} ({self.why})" if self.why else self.backend

    @property
    def id(self) -> str:
        """Twelve hex digits, the same whenever the same place is mounted at the same path."""
        return mount_id(self.source, self.target, self.store)


def mount_id(source: Source, target: str, store: StoreOptions) -> str:
    """Name a mount after what decides where its bytes go, so that a restart finds its cache."""
    words = "\0".join((source.url, target, store.endpoint_url or "", store.profile or ""))
    return hashlib.sha256(words.encode()).hexdigest()[:12]
