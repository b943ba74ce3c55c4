"""A directory that is the store itself: nothing is mounted, and nothing is taken away."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.errors import MountUnavailableError
from mountkit.formatting import timestamp
from mountkit.linux import mount_io
from mountkit.mounts.start_gate import StartGate
from mountkit.names import is_own
from mountkit.state import baseline

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.backends.base import Backend, Control
    from mountkit.linux.daemon import Daemon
    from mountkit.linux.mount_table import MountEntry
    from mountkit.linux.process import ProcessIdentity
    from mountkit.mounts.inventory import Inventory
    from mountkit.spec import MountSpec
    from mountkit.state.bypassed_files import BypassedFile
    from mountkit.state.mount_directory import StateDirectory
    from mountkit.state.record import MountRecord

FOLDER_SECONDS = 30.0


class DirectPlace:
    """See :class:`mountkit.mounts.mounting.Mounting`."""

    def __init__(self, spec: MountSpec, backend: Backend, directory: StateDirectory) -> None:
        self.spec = spec
        self.backend = backend
        self.directory = directory
        self.daemon: Daemon | None = None
        #: None always: it is of a disk of others, which nobody here may abort.
        self.device: int | None = None
        self.starts = StartGate(spec)
        self.torn: tuple[BypassedFile, ...] = ()
        self._served: MountEntry | None = None

    @property
    def adopted(self) -> bool:
        """There is no daemon that another process could have left."""
        return False

    @property
    def control(self) -> Control:
        """What is in the directory."""
        return self.backend.control(self.spec, self.directory.path)

    def entry(self) -> MountEntry | None:
        """What the directory lies on."""
        return self.backend.entry(self.spec.target)

    def waiting(self) -> int | None:
        """Nobody says."""
        return None

    def ended(self) -> str:
        """There is no daemon that could."""
        return ""

    def mounted(self) -> bool:
        """Whether the disk is there."""
        entry = self.entry()
        there = entry is not None and self.backend.matches(entry, self.spec.id, None)
        if self._served is not None:
            # Where a disk is gone, another one may lie behind it, or over it.
            there = there and entry is not None and entry.id == self._served.id
        if self._served is not None and not there:
            # What is written until it is back lies below it, where nobody will look.
            at = timestamp(time.time())
            reason = f"The disk of {self.spec.target} was not mounted at {at}."
            baseline.note_lost(self.directory.path, reason)
            self._served = None
        return there

    def clear_target(self, leftover: ProcessIdentity | None) -> None:  # noqa: ARG002
        """Make the directory, unless it is there.

        Raises MountUnavailableError if it cannot be made.
        """
        problem = mount_io.make_folder(self.spec.target, FOLDER_SECONDS)
        if problem:
            raise MountUnavailableError(
                f"The directory {self.spec.target} cannot be made: {problem}.",
                hint=f"See what it lies on: findmnt --target {self.spec.target}",
            )

    def take_over(self, record: MountRecord | None) -> bool:  # noqa: ARG002
        """There is no daemon to take over; what its run has written is known all the same."""
        return False

    def quarantine_bypassed(self) -> bool:
        """Nothing can be written beside what is not mounted."""
        return False

    def record_bypassed(self) -> None:
        """There is nothing to record."""

    def reconcile_leftovers(self, found: Inventory) -> Path:  # noqa: ARG002
        """Nothing waits."""
        return Path(self.spec.cache_dir)

    def release(self) -> None:
        """Nothing is held."""

    def start(self, timeout: float, seen: Callable[[], None]) -> None:
        """See that the disk is there and answers, and note what the directory holds.

        Raises MountUnavailableError if it does not, or once ``starts`` is shut.
        """
        self.starts.check()
        answer = mount_io.ask(self.spec.target, timeout)
        if not self.mounted() or not answer.alive:
            said = str(answer) if self.mounted() else "its disk is not mounted"
            raise MountUnavailableError(
                f"{self.spec.target} cannot be used: {said}.",
                hint=f"See what it lies on: findmnt --target {self.spec.target}",
            )
        partially_deleted = self.control.partially_deleted()
        if partially_deleted:
            self.directory.bypassed.note_partially_deleted(partially_deleted)
        self.control.self_check()
        self._served = self.entry()
        seen()

    def leaves(self, record: MountRecord) -> bool:  # noqa: ARG002
        """Whether something did not get to its end."""
        try:
            files = self.control.files()
        except (MountUnavailableError, OSError):
            # What cannot be seen may not have.
            return True
        return any(file.dirty and not is_own(file.path) for file in files)

    def kill(self, *, hung: bool = False) -> None:
        """There is nothing to end."""

    def unmount(self, daemon: ProcessIdentity | None = None) -> None:
        """There is nothing to take away."""
