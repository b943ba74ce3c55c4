"""One daemon a cache: two on the same one would upload and delete each other's files."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from mountkit.errors import MountkitError, MountUnavailableError
from mountkit.spec import MountSpec, StoreOptions
from mountkit.state import json_file
from mountkit.store import parse

logger = logging.getLogger("mountkit")

LOCK_NAME = "lock"
OWNER_NAME = "mount.json"
LOOK_SECONDS = 0.2


def acquire(spec: MountSpec, patience: float = LOOK_SECONDS) -> FileLock:
    """Take the cache of a mount; the kernel gives it back when this process ends.

    Who only looks whether it is free has it for a moment, which is waited for.

    Raises MountUnavailableError if another process has it, or the directory cannot be used.
    """
    cache = Path(spec.cache_dir)
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Given back by the thread that used the cache last, whichever that is.
        lock = FileLock(cache / LOCK_NAME, mode=0o600, thread_local=False)
        lock.acquire(timeout=patience)
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


def sign(spec: MountSpec) -> None:
    """Write down whose cache it is, for whoever finds it when nothing else tells any more.

    By the process that has it.
    """
    content = {
        "source": spec.source.url,
        "target": spec.target,
        "backend": spec.backend,
        "store": asdict(spec.store),
        "node": spec.node,
    }
    try:
        json_file.replace(Path(spec.cache_dir) / OWNER_NAME, content)
    except OSError as error:
        logger.warning("mountkit: whose %s is cannot be noted: %s", spec.cache_dir, error.strerror)


def owner(cache: Path) -> MountSpec | None:
    """The mount that a cache belongs to, as far as it was written down."""
    try:
        content = json_file.load(cache / OWNER_NAME)
        if content is None:
            return None
        store = StoreOptions(**content["store"])
        place = parse(content["source"])
        where, backend, node = content["target"], content["backend"], content.get("node", "")
        return MountSpec(place, where, backend, store, str(cache), node=node)
    except (MountkitError, OSError, KeyError, TypeError) as error:
        logger.warning("mountkit: whose %s is cannot be read: %s", cache, error)
        return None


def is_free(spec: MountSpec) -> bool:
    """Whether no process has the cache right now."""
    try:
        acquire(spec, patience=0).release()
    except MountUnavailableError:
        return False
    return True
