"""What this machine knows of a mount cannot be read or written: no raw error, but a named one.

A disk that is full, or a home directory that is away for a moment, is no reason to end a training
whose checkpoints are only to be warned of.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from mountkit.errors import NotDurableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mountkit.mounts.mount import Mount


@contextlib.contextmanager
def naming(mount: Mount | None) -> Iterator[None]:
    """Have an error inside name the mount that it happened to, and the next command.

    Raises
    ------
    NotDurableError
        In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        if mount is None:
            raise NotDurableError(
                f"A file cannot be read or written: {error}.",
                hint="See what is mounted, and where: mountkit status",
            ) from error
        place = mount.directory.path
        raise NotDurableError(
            f"What is known of the mount at {mount.path} cannot be read or written: {error}.",
            hint=f"See what is wrong, and whether the disk is full: ls -la {place}; df {place}",
        ) from error
