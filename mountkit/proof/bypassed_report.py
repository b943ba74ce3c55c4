"""What people are told of a file that bypassed the mount."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mountkit.errors import Unproven

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mountkit.mounts.mount import Mount
    from mountkit.state.bypassed_files import Stray


def explained(mount: Mount, stray: Stray) -> Unproven:
    """The file as people are told of it: how much, when, and why as far as that is known."""
    record = mount.last_record()
    reason = why(stray, record.began if record else 0.0, record.lost if record else ())
    kept = f"{mount.spec.cache_dir}/strays"
    where = f"in {kept}" if stray.torn else f"in {mount.path} below the mount or in {kept}"
    return Unproven(stray.path, stray.size, f"{reason}; it is on the local disk, {where}")


def why(stray: Stray, began: float, lost: Iterable[float]) -> str:
    """Why a file missed the mount that was made at ``began``, and ``lost`` at these moments."""
    if stray.torn:
        return "the daemon died before it had written it to its end"
    if not stray.mark:
        return "it did not reach the mount"
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stray.at))
    missed = f"it did not reach the mount: it was written at {clock}"
    if stray.at < began:
        return f"{missed}, before the mount was made"
    if stray.until is not None and stray.at >= stray.until:
        return f"{missed}, while the mount was gone"
    losses = [moment for moment in lost if began < moment <= stray.at]
    uncovered = stray.covered is None or not max(losses, default=0.0) < stray.covered <= stray.at
    if losses and uncovered:
        return f"{missed}, while the mount was gone"
    return (
        f"{missed}, by a process whose working directory, or a directory it holds open, lies below "
        "the mount"
    )
