"""The files of a checkpoint that was just saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.errors import NotDurableError
from mountkit.mounts import link_names

if TYPE_CHECKING:
    from pathlib import Path

    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount


def saved_files(
    mount: Mount, top: Path, limits: Limits, *, shared: bool = False
) -> tuple[str, ...]:
    """All files below ``top``, relative to it. ``shared``: Other nodes save there, too.

    Raises
    ------
    NotDurableError
        If they cannot be listed.
    MountUnavailableError
        If the mount does not come back.
    """
    backend = backends.load(mount.spec.backend)
    if shared or not backend.write_back:
        # Listed through the mount, it would be the store that is waited for; and it may show what
        # other nodes have written.
        below = mount.relative(top)
        return tuple(file.path[len(below) + 1 :] for file in mount.control().files(below))
    try:
        return link_names.walk(top, backend.links)
    except OSError:
        # The daemon died just after the save; what was written waits in its cache.
        mount.wait_until_serving(limits.repair)
    try:
        return link_names.walk(top, backend.links)
    except OSError as error:
        bypassed = [path for path in mount.directory.bypassed.paths() if f"{top.name}/" in path]
        raise NotDurableError(
            f"{top} was saved and cannot be listed: {error.strerror}. "
            f"{len(bypassed)} files of it did not reach the mount.",
            hint=f"See what became of the mount: mountkit status {mount.path}",
        ) from error
