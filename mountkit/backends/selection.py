"""Which backend ``auto`` stands for, and why."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.errors import MountUnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GIB = 1024**3
# rclone keeps 1 GiB free by evicting what it holds; below two it has no room to work in.
LEAST_ROOM = 2 * GIB


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to choose from. ``rclone`` and ``mountpoint`` say what keeps each from use.

    ``room`` is what is free where rclone would keep files, in bytes.
    """

    rclone: str
    mountpoint: str
    room: int


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend, and why it was taken."""

    name: str
    why: str


def decide(machine: Machine) -> Choice | None:
    """Rclone wherever it can work; None if neither can.

    On rclone every operation of a save works, and training goes on while the store is away.
    Mountpoint needs no disk.
    """
    if not machine.rclone and machine.room >= LEAST_ROOM:
        return Choice("rclone", "every file operation works on it, and it rides out an outage")
    if not machine.mountpoint:
        if machine.rclone:
            return Choice("mountpoint", f"rclone cannot be used: {machine.rclone}")
        free = f"{machine.room / GIB:.1f} GiB"
        return Choice("mountpoint", f"the cache of rclone would have only {free} of disk")
    if not machine.rclone:
        return Choice("rclone", f"mount-s3 cannot be used: {machine.mountpoint}")
    return None


def mounts(name: str, scheme: str) -> bool:
    """Whether a backend mounts the stores of a URL scheme."""
    backend = backends.load(name)
    return backend.mounts and (backend.schemes is None or scheme in backend.schemes)


def refuse_scheme(name: str, scheme: str) -> None:
    """Raise UsageError if that backend does not mount the stores of a URL scheme."""
    if not backends.load(name).mounts:
        raise UsageError(
            f"The backend {name} mounts nothing: a training saves into the source itself.",
            hint="Give file:///path as SOURCE, and the same /path as TARGET. Or leave out "
            f"--backend {name}.",
        )
    if not mounts(name, scheme):
        known = " and ".join(f"{each}://" for each in sorted(backends.load(name).schemes or ()))
        raise UsageError(
            f"The backend {name} mounts {known} only, and not {scheme}://.",
            hint="Use --backend rclone, or auto.",
        )


def problem(name: str, search_path: str) -> str:
    """What keeps a backend from use on this machine, or ""."""
    try:
        backends.load(name).binary(search_path)
    except MountUnavailableError as error:
        return error.message
    return ""


def choose(
    search_path: str,
    cache_root: Path,
    ask: Callable[[str, str], str] = problem,
    *,
    scheme: str = "",
) -> Choice:
    """Look at this machine and decide; with the scheme of a URL, for such a store.

    Raises MountUnavailableError if neither rclone nor mount-s3 can be used.
    """
    rclone = ask("rclone", search_path)
    if scheme and not mounts("mountpoint", scheme):
        if rclone:
            raise MountUnavailableError(
                f"There is nothing to mount {scheme}:// with. {rclone}",
                hint="Install it: pip install 'mountkit[rclone]'",
            )
        return Choice("rclone", f"it mounts {scheme}://")
    room = _room(cache_root)
    # Asking a program for its version takes a while; the second is asked only if it matters.
    needed = bool(rclone) or room < LEAST_ROOM
    mountpoint = ask("mountpoint", search_path) if needed else ""
    choice = decide(Machine(rclone, mountpoint, room))
    if choice is None:
        raise MountUnavailableError(
            f"There is nothing to mount with. {rclone} {mountpoint}",
            hint="Install one: pip install 'mountkit[rclone]'",
        )
    return choice


def _room(folder: Path) -> int:
    """Bytes free where the folder is, or would be made."""
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(place).free
