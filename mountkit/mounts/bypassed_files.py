"""Files that missed the mount, and that no run has told of yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.state.bypassed_files import Stray, unnamed

if TYPE_CHECKING:
    from mountkit.mounts.mount import Mount
    from mountkit.state.record import MountRecord


def new_strays(mount: Mount, record: MountRecord | None) -> tuple[Stray, ...]:
    """Files that missed the mount since it was first made, each name once."""
    before = frozenset(record.strays_before if record else ())
    return unnamed(mount.directory.strays.found(), before)
