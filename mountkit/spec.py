"""Frozen values that the other modules hand to each other. No I/O."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

# Enough for the optimizer of a model of 12 billion parameters in one file.
LARGEST_FILE_BYTES = 150_000_000_000

KeepLocal = Literal["newest", "none", "all"]


@dataclass(frozen=True, slots=True)
class Source:
    """A place in a bucket: ``s3://bucket/prefix``; ``mountkit.store.parse`` reads one.

    Of ``file:///path`` the bucket is empty. ``prefix`` has no slash at either end; it is empty for
    the whole bucket.
    """

    scheme: str
    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        """The URL, without a slash at the end."""
        tail = f"/{self.prefix}" if self.prefix else ""
        return f"{self.scheme}://{self.bucket}{tail}"

    @property
    def directory(self) -> str:
        """The absolute path of the directory of this machine that it is; "" if it is none."""
        return f"/{self.prefix}" if self.scheme == "file" else ""

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
    chose the backend; it is empty if the user did. ``keep_local`` says which proven checkpoints
    keep their local copies, ``cache_size`` how many bytes all local copies may take, if that is
    bounded. ``node`` tells the nodes of one run from each other, which mount the same place at the
    same path and may share a home; it is empty for the first, and where there is only one.
    """

    source: Source
    target: str
    backend: str
    store: StoreOptions
    cache_dir: str
    options: tuple[tuple[str, str], ...] = field(default=())
    largest_file: int = LARGEST_FILE_BYTES
    why: str = ""
    keep_local: KeepLocal = "newest"
    cache_size: int | None = None
    node: str = ""

    @property
    def how(self) -> str:
        """The backend, and why it was chosen if nobody asked for it."""
        return f"{self.backend} ({self.why})" if self.why else self.backend

    @property
    def id(self) -> str:
        """Twelve hex digits, the same whenever the same place is mounted at the same path."""
        return mount_id(self.source, self.target, self.store, self.node)


def mount_id(source: Source, target: str, store: StoreOptions, node: str = "") -> str:
    """Name a mount after what decides where its bytes go, so that a restart finds its cache."""
    words = (source.url, target, store.endpoint_url or "", store.profile or "")
    text = "\0".join((*words, node) if node else words)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
