"""The mark that a daemon leaves on what it uploads: whose cache it came from, and which run.

A copy inside S3 keeps the mark of its source (``rclone serve s3`` gives it that of the copier). So
it tells what this run has uploaded from what it has only renamed. And it tells the uploads of this
cache from those of another machine, which may mount the same place at the same path: a mount's id
is the same on both.

A mark is ``<tag of the cache>-<run>``. The version before had ``<id of the mount>-<run>``, and the
one before that only the id: whose those are, nobody can tell, and they count as this cache's own.
"""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.errors import ConfigurationError
from mountkit.state import json_file

if TYPE_CHECKING:
    from mountkit.spec import MountSpec
    from mountkit.state.mount_directory import StateDirectory

logger = logging.getLogger("mountkit")

RUN_NAME = "run"
TAG_NAME = "upload-tag.json"


def begin(directory: StateDirectory, cache: Path) -> None:
    """A mount is made: what is uploaded from now on is another run's than what was before.

    By the process that has the cache.
    """
    directory.write_file(RUN_NAME, f"{_made(cache)}-{uuid.uuid4().hex[:12]}")


def value(directory: Path, mount_id: str) -> str:
    """The mark of the run whose private directory that is; without a run, that of the mount."""
    try:
        run = (directory / RUN_NAME).read_text().strip()
    except FileNotFoundError:
        return mount_id
    if not run:
        return mount_id
    # A daemon that the version before has started goes on with the mark that it was given.
    return run if "-" in run else f"{mount_id}-{run}"


def is_foreign(mark: str, spec: MountSpec, directory: Path) -> bool:
    """Whether an object with that mark was uploaded from another cache than that of this mount.

    An empty mark is nobody's, and so is one of which nobody can tell: neither is foreign.
    """
    tag = mark.partition("-")[0]
    if tag in {"", spec.id, value(directory, spec.id).partition("-")[0]}:
        return False
    try:
        return tag != _read(Path(spec.cache_dir))
    except (OSError, ConfigurationError) as error:
        logger.warning("mountkit: whose upload %s is cannot be told: %s", mark, error)
        return False


def _read(cache: Path) -> str:
    """The tag of a cache, which stays its own wherever it is used; "" if it has none yet."""
    content = json_file.load(cache / TAG_NAME)
    return "" if content is None else str(content.get("tag", ""))


def _made(cache: Path) -> str:
    """The tag of a cache, made if it has none; one for this run only if it cannot be kept."""
    try:
        found = _read(cache)
    except (OSError, ConfigurationError) as error:
        logger.warning("mountkit: %s is made anew: %s", cache / TAG_NAME, error)
        found = ""
    if found:
        return found
    tag = uuid.uuid4().hex
    try:
        # In one step: whoever reads it sees all of it or nothing.
        json_file.replace(cache / TAG_NAME, {"tag": tag})
    except OSError as error:
        logger.warning("mountkit: %s cannot be kept: %s", cache / TAG_NAME, error.strerror)
    return tag
