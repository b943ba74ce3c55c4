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
) -> tuple[str, ...] | None:
    """All files below ``top``, relative to it. ``shared``: Other nodes save there, too.

    None if nothing was saved there: a Trainer of somebody's own may leave a save out, or save it
    elsewhere, and tells of it all the same.

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
        found = tuple(file.path[len(below) + 1 :] for file in mount.control().files(below))
        return found if found or shared or _bypassed(mount, top) else None
    try:
        return link_names.walk(top, backend.links)
    except OSError:
        # The daemon died just after the save; what was written waits in its cache.
        mount.wait_until_serving(limits.repair)
    try:
        return link_names.walk(top, backend.links)
    except OSError as error:
        bypassed = _bypassed(mount, top)
        absent = isinstance(error, FileNotFoundError) and not bypassed
        if absent and not mount.control().files(mount.relative(top)):
            return None
        raise NotDurableError(
            f"{top} was saved and cannot be listed: {error.strerror}. "
            f"{len(bypassed)} files of it did not reach the mount.",
            hint=f"See what became of the mount: mountkit status {mount.path}",
        ) from error


def _bypassed(mount: Mount, top: Path) -> list[str]:
    """The files of it that did not reach the mount."""
    return [path for path in mount.directory.bypassed.paths() if f"{top.name}/" in path]
