"""One daemon a cache: two on the same one would upload and delete each other's files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from mountkit.errors import MountUnavailableError

if TYPE_CHECKING:
    from mountkit.spec import MountSpec

LOCK_NAME = "lock"


def acquire(spec: MountSpec) -> FileLock:
    """Take the cache of a mount; the kernel gives it back when this process ends.

    Raises
    ------
    MountUnavailableError
        If another process has it, or the directory cannot be used.
    """
    cache = Path(spec.cache_dir)
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(cache / LOCK_NAME, mode=0o600)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise MountUnavailableError(
            f"{spec.source.url} is mounted at {spec.target} already, by another process.",
            hint=f"See it: mountkit status. End it: mountkit umount {spec.target}",
        ) from error
    except OSError as error:
        raise MountUnavailableError(
            f"The cache directory {cache} cannot be used: {error.strerror}.",
            hint="Give another one with --cache-dir.",
        ) from error
    return lock


def is_free(spec: MountSpec) -> bool:
    """Whether no process has the cache right now."""
    try:
        acquire(spec).release()
    except MountUnavailableError:
        return False
    return True
