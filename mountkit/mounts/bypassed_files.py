"""The files that bypassed the mount, and that no run has named yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.state.bypassed_files import BypassedFile, unnamed

if TYPE_CHECKING:
    from mountkit.mounts.mount import Mount
    from mountkit.state.record import MountRecord


def new_bypassed_files(mount: Mount, record: MountRecord | None) -> tuple[BypassedFile, ...]:
    """The files that bypassed the mount since it was first made, each name once."""
    before = frozenset(record.strays_before if record else ())
    return unnamed(mount.directory.bypassed.found(), before)
