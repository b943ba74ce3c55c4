"""The newest checkpoint that a training can go on from: of a bucket, or of a local directory."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from mountkit.checkpoints import catalog, resumable
from mountkit.names import TRAINER_STATE, step_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mountkit.checkpoints.manifest import Manifest
    from mountkit.store.base import Store

logger = logging.getLogger("mountkit")

# What transformers leaves in a checkpoint while it saves it on a signal, and looks at nowhere.
INCOMPLETE = "checkpoint-is-incomplete.txt"


def warn(name: str, reason: str) -> None:
    """Log that a checkpoint was passed over."""
    logger.warning("mountkit: %s is passed over: %s", name, reason)


def in_store(
    store: Store, *, weights_only: bool = False, on_skip: Callable[[str, str], None] = warn
) -> str | None:
    """The name of the newest proven one below the store's source; None if there is none.

    ``on_skip``: Called with the name of each newer one, and why it was passed over.

    Raises MountkitError if the store cannot be asked.
    """

    def refuse(manifest: Manifest) -> str:
        paths = (entry.path for entry in manifest.files)
        return resumable.refusal(paths, weights_only=weights_only)

    newest = catalog.latest(store, on_skip=on_skip, refuse=refuse)
    return None if newest is None else newest.name


def in_directory(
    directory: Path, *, weights_only: bool = False, on_skip: Callable[[str, str], None] = warn
) -> str | None:
    """The name of the highest step that is whole, as far as its files tell; None if there is none.

    Raises OSError if the directory is there and cannot be read.
    """
    try:
        entries = tuple(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return None
    steps = ((step_of(path.name), path) for path in entries)
    named = [(step, path) for step, path in steps if step is not None]
    for _, path in sorted(named, reverse=True):
        reason = _fault(path, weights_only=weights_only)
        if not reason:
            return path.name
        on_skip(path.name, reason)
    return None


def _fault(top: Path, *, weights_only: bool) -> str:
    files = [path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()]
    if not files:
        return "it is empty"
    if INCOMPLETE in files:
        return f"{INCOMPLETE} in it says that its save broke off"
    if not weights_only and TRAINER_STATE in files and not _readable(top / TRAINER_STATE):
        return f"its {TRAINER_STATE} is torn"
    return resumable.refusal(files, weights_only=weights_only)


def _readable(state: Path) -> bool:
    try:
        return isinstance(json.loads(state.read_bytes()), dict)
    except ValueError:
        return False
