"""All mounts of this user on this machine."""

from __future__ import annotations

import logging
import os
import stat
from typing import TYPE_CHECKING

from mountkit.errors import ConfigurationError
from mountkit.linux.mount_table import lies_in
from mountkit.names import SOCKET_NAME
from mountkit.state.mount_directory import StateDirectory
from mountkit.state.record import FAILED, MountRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

logger = logging.getLogger("mountkit")

# A unix socket's path has room for 107 bytes (man 7 unix).
LONGEST_DIRECTORY = 107 - len(f"/{SOCKET_NAME}")


class State:
    """All mounts of this user on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def directory(self, mount_id: str) -> StateDirectory:
        """The private directory of a mount, made if it is not there yet.

        Raises ConfigurationError if it cannot be made private, or its path is too long for a
        socket.
        """
        path = self.root / mount_id
        if len(os.fsencode(path)) > LONGEST_DIRECTORY:
            raise ConfigurationError(
                f"The state directory {self.root} is too long a path for a unix socket.",
                hint="Set MOUNTKIT_STATE_DIR to a shorter one.",
            )
        for folder in (self.root, path):
            _make_private(folder)
        return StateDirectory(path)

    def records(self) -> tuple[MountRecord, ...]:
        """Every mount that has a record, by target."""
        found = self._all(StateDirectory.read)
        return tuple(sorted(found, key=lambda record: record.spec.target))

    def left(self) -> tuple[MountRecord, ...]:
        """Every mount that is there, or came to no end, or to one before all was proven."""
        return tuple(self._all(StateDirectory.unfinished))

    def _all(self, read: Callable[[StateDirectory], MountRecord | None]) -> Iterator[MountRecord]:
        for path in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            try:
                record = read(StateDirectory(path)) if path.is_dir() else None
            except ConfigurationError as error:
                # One broken record must not hide the other mounts.
                logger.warning("mountkit: %s", error)
                continue
            if record is not None:
                yield record

    def at(self, target: str) -> MountRecord | None:
        """The mount at exactly that path: the one that lives, if a dead one has left its record."""
        there = [record for record in self.records() if record.spec.target == target]
        return max(there, key=_liveness, default=None)

    def containing(self, path: str) -> MountRecord | None:
        """The mount that a path lies in: the innermost, if several are nested."""
        inside = [record for record in self.records() if lies_in(path, record.spec.target)]
        return max(
            inside, key=lambda record: (len(record.spec.target), *_liveness(record)), default=None
        )


def _liveness(record: MountRecord) -> tuple[bool, bool, bool, str]:
    """The greater, the likelier it is that this mount is in the table."""
    daemon = record.daemon is not None and record.daemon.alive()
    return record.state != FAILED, record.supervisor.alive(), daemon, record.since


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise ConfigurationError(
            f"The state directory {folder} cannot be made: {error.strerror}.",
            hint="Set MOUNTKIT_STATE_DIR to a directory of your own.",
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ConfigurationError(
            f"The state directory {folder} belongs to somebody else.",
            hint="Set MOUNTKIT_STATE_DIR to a directory of your own.",
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)
