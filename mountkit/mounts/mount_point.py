"""The directory to mount at: whether it may be used (F9)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.errors import MountUnavailableError

if TYPE_CHECKING:
    from mountkit.linux.mount_table import MountEntry


def make_ready(target: str) -> None:
    """Make ``target`` an empty directory, or find that it is one. Nothing is mounted there.

    Raises MountUnavailableError if it is a file, not empty, or cannot be made.
    """
    path = Path(target)
    try:
        path.mkdir(parents=True, exist_ok=True)
        first = next(path.iterdir(), None)
    except (FileExistsError, NotADirectoryError) as error:
        raise MountUnavailableError(
            f"{error.filename or target} is a file, not a directory.",
            hint="Give a directory that is empty or not there yet.",
        ) from error
    except OSError as error:
        raise MountUnavailableError(
            f"The directory {target} cannot be made: {error.strerror}.",
            hint="Give a directory that you may write to.",
        ) from error
    if first is not None:
        raise MountUnavailableError(
            f"{target} is not empty (it holds {first.name}); a mount would hide what is in it.",
            hint="Give a directory that is empty or not there yet.",
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise MountUnavailableError(
            f"You may not write to {target}.", hint="Give a directory that you may write to."
        )


def refuse_foreign(target: str, entry: MountEntry) -> MountUnavailableError:
    """The error for a target at which somebody else has mounted something."""
    return MountUnavailableError(
        f"{entry.source} ({entry.fstype}) is mounted at {target} already, and not by mountkit.",
        hint="Give another directory; mountkit never unmounts what it did not mount.",
    )
