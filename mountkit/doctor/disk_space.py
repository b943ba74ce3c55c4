"""Room on the disk for what waits to be proven. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from mountkit.doctor.findings import UNAVAILABLE, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.doctor.findings import Status

GB = 10**9
GIB = 1024**3
#: What a backend keeps free of the disk its files wait on, in bytes: below that it gives up what it
#: has uploaded. A backend that is not listed keeps no files.
KEPT_FREE: Mapping[str, int] = MappingProxyType({"rclone": GIB})
# Where nobody says how large a checkpoint is, less than this is worth a word.
LITTLE = 10 * GIB


@dataclass(frozen=True, slots=True)
class Disk:
    """The directory whose disk it is, the bytes this user may still use there, or what is wrong."""

    directory: str
    free: int
    problem: str = ""


def size(count: int) -> str:
    """Bytes for people: ``13.0 GB``, ``64.2 MB``, ``12 kB``."""
    for limit, unit in ((GB, "GB"), (10**6, "MB")):
        if count >= limit:
            return f"{count / limit:,.1f} {unit}"
    return f"{count // 1000} kB"


def judge(disk: Disk, backend: str, checkpoint: int | None) -> Finding:
    """Whether the disk has room for a run.

    At most one save is outstanding: the next one waits until it is proven. Until then the local
    copies of its files are all there is to compare the store with, so one checkpoint must fit
    beside what the backend keeps free. The copies of earlier ones stay while there is room.

    ``disk``: Where files wait for their upload. ``backend``: The backend's name. ``checkpoint``:
    Bytes of the largest checkpoint; None if nobody said.
    """
    kept = KEPT_FREE.get(backend)
    if kept is None:
        return _finding("ok", f"{backend} keeps no files on this machine")
    if disk.problem:
        detail = f"The cache directory {disk.directory} cannot be used: {disk.problem}."
        return _finding("failed", detail, "Name another one: --cache-dir DIR")
    needed = (checkpoint or 0) + kept
    what = f"{size(kept)} that {backend} keeps free"
    if checkpoint is not None:
        what = f"{size(checkpoint)} for one checkpoint and {what}"
    if disk.free < needed:
        return _finding(
            "failed",
            f"{disk.directory} has {size(disk.free)} free ({disk.free:,} bytes), and this run "
            f"needs {size(needed)} ({needed:,} bytes) there: {what}.",
            "Free that much, name a directory with room (--cache-dir DIR), or use a backend that "
            "needs none (--backend mountpoint)",
        )
    detail = f"{size(disk.free)} free in {disk.directory}"
    if checkpoint is None:
        if disk.free >= LITTLE:
            return _finding("ok", detail)
        hint = "See whether a checkpoint fits: --model-size SIZE"
        return _finding("warning", f"Only {detail}.", hint)
    fit = (disk.free - kept) // max(1, checkpoint)
    if fit > 1:
        return _finding("ok", f"{detail}, for {fit:,} checkpoints")
    return _finding(
        "warning",
        f"Only {detail}: one checkpoint of {size(checkpoint)}, not two. The local copy of the last "
        "one has to make way while the next is written.",
        "Name a directory with more room: --cache-dir DIR",
    )


def _finding(status: Status, detail: str, hint: str = "") -> Finding:
    code = UNAVAILABLE if status == "failed" else 0
    return Finding("room", "room for the cache", status, detail, hint, code)
