"""What brings a store to a path, and looks after it there: a daemon's mount, or none at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mountkit import backends
from mountkit.config import environment
from mountkit.linux.fusermount import fusermount
from mountkit.mounts.direct_place import DirectPlace
from mountkit.mounts.mounter import Mounter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mountkit.backends.base import Backend, Control
    from mountkit.linux.daemon import Daemon, InheritedDaemon
    from mountkit.linux.mount_table import MountEntry
    from mountkit.linux.process import ProcessIdentity
    from mountkit.mounts.inventory import Inventory
    from mountkit.mounts.start_gate import StartGate
    from mountkit.spec import MountSpec
    from mountkit.state.bypassed_files import BypassedFile
    from mountkit.state.mount_directory import StateDirectory
    from mountkit.state.record import MountRecord


class Mounting(Protocol):
    """One place, for whoever opens, supervises and ends it."""

    spec: MountSpec
    backend: Backend
    directory: StateDirectory
    device: int | None
    starts: StartGate
    #: Files that a daemon which died had not written to their end, and that were set aside.
    torn: tuple[BypassedFile, ...]

    @property
    def daemon(self) -> Daemon | InheritedDaemon | None:
        """The daemon while there is one."""

    @property
    def adopted(self) -> bool:
        """Whether the daemon is one that another process started and left."""

    @property
    def control(self) -> Control:
        """What was written there."""

    def entry(self) -> MountEntry | None:
        """What is mounted there, whoever's it is."""

    def waiting(self) -> int | None:
        """How many requests are not answered; None if the kernel does not say."""

    def ended(self) -> str:
        """How it ended, in words; "" while it serves, as far as can be seen without asking it."""

    def mounted(self) -> bool:
        """Whether the mount table shows it."""

    def clear_target(self, leftover: ProcessIdentity | None) -> None:
        """Make the target ready.

        ``leftover`` is the daemon that an earlier record names.

        Raises MountUnavailableError if it cannot be.
        """

    def take_over(self, record: MountRecord | None) -> bool:
        """Take over what another process has left, and serves; whether there is anything."""

    def quarantine_bypassed(self) -> bool:
        """Move away what was written beside it; whether there was any."""

    def record_bypassed(self) -> None:
        """Record what was written beside it; move none."""

    def reconcile_leftovers(self, found: Inventory) -> Path:
        """Hold what an earlier run left against the store; where that is which was moved away."""

    def release(self) -> None:
        """Let go of it, once nothing is mounted there any more."""

    def start(self, timeout: float, seen: Callable[[], None]) -> None:
        """Have it serve within ``timeout`` seconds; ``seen`` is called once it can be told.

        Raises MountUnavailableError.
        """

    def leaves(self, record: MountRecord) -> bool:
        """Whether anything that was written waits, or went astray, once nobody serves any more."""

    def kill(self, *, hung: bool = False) -> None:
        """End it, whatever state it is in."""

    def unmount(self, daemon: ProcessIdentity | None = None) -> None:
        """Take it away; ``daemon`` is the one to wait for that another process started.

        Raises MountUnavailableError if it does not go.
        """


def mounting(spec: MountSpec, backend: Backend, directory: StateDirectory) -> Mounting:
    """What brings ``spec`` to its target; nothing is done yet.

    Raises MountUnavailableError if a program for it is missing.
    """
    if not backend.mounts:
        return DirectPlace(spec, backend, directory)
    search_path = environment.search_path()
    program = fusermount(search_path)
    binary = backend.binary(search_path)
    env = environment.daemon_environment(spec.source, spec.store)
    return Mounter(spec, backend, binary, directory, program, env)


def told(spec: MountSpec) -> str:
    """What to tell people once it serves."""
    if not backends.load(spec.backend).mounts:
        return f"{spec.target} is {spec.source.url} itself: nothing is mounted, all is proven there"
    return f"{spec.source.url} is mounted at {spec.target} with {spec.how}"


def left(spec: MountSpec, backend: Backend, directory: StateDirectory) -> Mounting:
    """The same, to take away what another process has brought: nothing is ever started."""
    if not backend.mounts:
        return DirectPlace(spec, backend, directory)
    program = fusermount(environment.search_path())
    return Mounter(spec, backend, None, directory, program, {})
