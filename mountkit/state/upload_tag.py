"""The mark that a daemon leaves on what it uploads: whose mount it was, and which run of it.

A copy inside a store keeps the mark of its source. So it tells what this run has uploaded from what
it has only renamed.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mountkit.state.mount_directory import StateDirectory

RUN_NAME = "run"


def begin(directory: StateDirectory) -> None:
    """A mount is made: what is uploaded from now on is another run's than what was before."""
    directory.write_file(RUN_NAME, uuid.uuid4().hex[:12])


def value(directory: Path, mount_id: str) -> str:
    """The mark of the run whose private directory that is; without a run, that of the mount."""
    try:
        run = (directory / RUN_NAME).read_text().strip()
    except FileNotFoundError:
        return mount_id
    return f"{mount_id}-{run}" if run else mount_id
