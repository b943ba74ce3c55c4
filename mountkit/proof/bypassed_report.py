"""What people are told of a file that bypassed the mount."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mountkit.errors import MountkitError, Unproven
from mountkit.mounts.shadowed_files import missed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mountkit.mounts.mount import Mount
    from mountkit.state.bypassed_files import BypassedFile


def astray(mount: Mount) -> tuple[Unproven, ...]:
    """What may lie on a disk of this machine, and was never in the mount; what is not known of it.

    The mount stands for files that nobody can name.
    """
    found: list[Unproven] = []
    try:
        found += [explained(mount, each) for each in missed(mount)]
        record = mount.last_record()
        covered = mount.shadowed_by() or (record.covered if record else "")
    except MountkitError as error:
        return (*found, Unproven(mount.path, 0, error.message))
    except OSError as error:
        reason = f"what was written beside the mount is not known: {error}"
        return (*found, Unproven(mount.path, 0, reason))
    if covered:
        reason = f"{covered}; what was written meanwhile went there, if anything was"
        found.append(Unproven(mount.path, 0, reason))
    return tuple(found)


def explained(mount: Mount, bypassed_file: BypassedFile) -> Unproven:
    """The file as people are told of it: how much, when, and why as far as that is known."""
    record = mount.last_record()
    reason = why(bypassed_file, record.began if record else 0.0, record.lost if record else ())
    kept = f"{mount.spec.cache_dir}/strays"
    where = f"in {kept}" if bypassed_file.torn else f"in {mount.path} below the mount or in {kept}"
    return Unproven(
        bypassed_file.path, bypassed_file.size, f"{reason}; it is on the local disk, {where}"
    )


def why(file: BypassedFile, began: float, lost: Iterable[float]) -> str:
    """Why a file bypassed the mount that was made at ``began``, and ``lost`` at these moments."""
    if file.torn:
        return "the daemon died before it had written it to its end"
    if not file.mark:
        return "it did not reach the mount"
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(file.at))
    missed = f"it did not reach the mount: it was written at {clock}"
    if file.at < began:
        return f"{missed}, before the mount was made"
    if file.until is not None and file.at >= file.until:
        return f"{missed}, while the mount was gone"
    losses = [moment for moment in lost if began < moment <= file.at]
    uncovered = file.covered is None or not max(losses, default=0.0) < file.covered <= file.at
    if losses and uncovered:
        return f"{missed}, while the mount was gone"
    return (
        f"{missed}, by a process whose working directory, or a directory it holds open, lies below "
        "the mount"
    )
