"""What a bucket is: objects, their checksums, and the stores that hold them.

One folder a store, all behind the same protocols (``base``). A new one is a folder and a line here.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from mountkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.spec import Source, StoreOptions
    from mountkit.store.base import Provider, Store
    from mountkit.timing import Deadline

#: By URL scheme: the folder, and the class in its ``provider`` module.
PROVIDERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "s3": ("s3", "S3Provider"),
        "rclone": ("remote", "RcloneProvider"),
        "az": ("az", "AzProvider"),
        "abfs": ("az", "AzProvider"),
        "adl": ("az", "AzProvider"),
        "gs": ("gs", "GSProvider"),
        "hdfs": ("hdfs", "HdfsProvider"),
        "file": ("file", "FileProvider"),
    }
)
EXAMPLE = "Give a URL such as s3://my-bucket/run-1."


def provider(scheme: str) -> Provider:
    """What there is to know of the stores of a URL scheme.

    Raises UsageError if there are none.
    """
    if scheme not in PROVIDERS:
        raise UsageError(f"{scheme}:// is not a scheme mountkit knows.", hint=EXAMPLE)
    folder, name = PROVIDERS[scheme]
    found: Provider = getattr(import_module(f"mountkit.store.{folder}.provider"), name)()
    return found


def providers() -> tuple[Provider, ...]:
    """One for each URL scheme."""
    return tuple(provider(scheme) for scheme in PROVIDERS)


def parse(url: str) -> Source:
    """Read a URL such as ``s3://bucket/run-1``.

    Raises UsageError if it is no URL, names no bucket, or has a scheme that is not supported.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or not scheme:
        raise UsageError(f"{url!r} is not a URL.", hint=EXAMPLE)
    if scheme in PROVIDERS:
        return provider(scheme).parse(url)
    raise UsageError(f"{scheme}:// in {url!r} is not a scheme mountkit knows.", hint=EXAMPLE)


def open_store(
    source: Source,
    options: StoreOptions,
    *,
    patience: float | None = None,
    deadline: Deadline | None = None,
) -> Store:
    """The store that a source lies in; see ``Provider.open``."""
    return provider(source.scheme).open(source, options, patience=patience, deadline=deadline)


def refusal_in(source: Source, text: str) -> float | None:
    """For how many seconds a refusal that a daemon's error quotes may pass; see ``Provider``."""
    return provider(source.scheme).refusal_in(text)
