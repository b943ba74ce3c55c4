"""A file that missed the mount: what is known of it, and in what words people are told."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit.spec import Unproven

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable

    from mountkit.mounts.mount import Mount
    from mountkit.state.record import MountRecord


@dataclass(frozen=True, slots=True)
class Stray:
    """One time that a file missed the mount; the next time under the same name is another one.

    ``path`` is relative to the mount, ``size`` in bytes. ``at`` is when the kernel says that it
    came to the bare directory, which nobody can choose, in seconds since the epoch. ``mark`` tells
    two of the same name apart; it is empty where a mountkit that knew only names noted it.
    ``covered`` and ``until`` say since when and until when the mount lay over the directory, as far
    as whoever found the file knew. A ``torn`` one was left by a daemon that died.
    """

    path: str
    size: int = 0
    at: float = 0.0
    mark: str = ""
    covered: float | None = None
    until: float | None = None
    torn: bool = False

    @classmethod
    def of(
        cls,
        path: str,
        status: os.stat_result,
        covered: tuple[float | None, float | None] = (None, None),
        *,
        torn: bool = False,
    ) -> Stray:
        """The file with that status; a copy of the same size and date is another one."""
        mark = f"{status.st_ino:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
        return cls(path, status.st_size, status.st_ctime, mark, *covered, torn)

    @property
    def occurrence(self) -> tuple[str, str]:
        """What a record keeps of it."""
        return self.path, self.mark


def new_strays(mount: Mount, record: MountRecord | None) -> tuple[Stray, ...]:
    """Files that missed the mount since it was first made, each name once."""
    before = frozenset(record.strays_before if record else ())
    return unnamed(mount.directory.strays.found(), before)


def unnamed(found: Iterable[Stray], before: Collection[tuple[str, str]]) -> tuple[Stray, ...]:
    """Those of which no earlier run has told, the last of each name."""
    last = {stray.path: stray for stray in found if stray.occurrence not in before}
    return tuple(last[path] for path in sorted(last))


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
