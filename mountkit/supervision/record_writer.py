"""Keep the record of a mount on the disk, also while the disk takes nothing.

A full disk is no reason to leave the mount unwatched.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mountkit.errors import MountUnavailableError
from mountkit.events import Problem

if TYPE_CHECKING:
    from mountkit.events import Observer
    from mountkit.state.mount_directory import StateDirectory
    from mountkit.state.record import MountRecord

logger = logging.getLogger("mountkit")


class RecordKeeper:
    """The record of one mount, as it is or as it will be once the disk takes it."""

    def __init__(self, directory: StateDirectory, record: MountRecord, observer: Observer) -> None:
        self._directory = directory
        self._observer = observer
        #: Replaced as a whole: other threads read it.
        self.record = record
        self._written, self._unwritable = True, ""

    def write(self, record: MountRecord) -> None:
        """Replace the record, now or as soon as the disk takes it."""
        self.record, self._written = record, False
        self.write_down()

    def write_down(self) -> bool:
        """Whether the record is on the disk by now. To be called every turn until it is."""
        if self._written:
            return True
        try:
            self._directory.write(self.record)
        except OSError as error:
            if not self._unwritable:
                target = self.record.spec.target
                self._unwritable = f"The record of the mount at {target} cannot be written: {error}"
                logger.warning("mountkit: %s", self._unwritable)
                self._observer(Problem(self._unwritable))
            return False
        self._written, self._unwritable = True, ""
        return True

    def must_be_written(self) -> None:
        """Raise ``MountUnavailableError`` while the record is not on the disk."""
        if not self.write_down():
            raise MountUnavailableError(
                self._unwritable, hint=f"Make room: df -h {self._directory.path}"
            )
