"""The directory to mount at: what is there now, and whether it may be used (F9)."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import mountinfo
from mountkit.errors import MountUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.mountinfo import MountEntry

FUSE_DEVICE = Path("/dev/fuse")
UNMOUNT_SECONDS = 5.0
POLL_SECONDS = 0.1


def resolve(path: str | Path) -> str:
    """The absolute path of a target, without touching the target if something is mounted there."""
    absolute = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - resolve() would touch
    parent = os.path.realpath(absolute.parent)
    target = str(Path(parent) / absolute.name) if absolute.name else str(absolute)
    if mountinfo.at(target) is not None:
        return target
    return os.path.realpath(target)


def fusermount(search_path: str) -> str:
    """The program that mounts and unmounts for ordinary users.

    Raises
    ------
    MountUnavailableError
        If it, or the device, is missing.
    """
    if not FUSE_DEVICE.exists():
        raise MountUnavailableError(
            f"{FUSE_DEVICE} is missing: this machine or container has no FUSE.",
            hint="Load it with 'modprobe fuse', or start the container with "
            "--device /dev/fuse --cap-add SYS_ADMIN.",
        )
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        raise MountUnavailableError(
            f"{FUSE_DEVICE} may not be opened by this user.",
            hint="Have it made readable and writable: chmod 666 /dev/fuse",
        )
    path = shutil.which("fusermount3", path=search_path)
    if path is None:
        raise MountUnavailableError(
            "There is no fusermount3 on PATH.", hint="Install it: apt-get install fuse3"
        )
    return path


def make_ready(target: str) -> None:
    """Make ``target`` an empty directory, or find that it is one. Nothing is mounted there.

    Raises
    ------
    MountUnavailableError
        If it is a file, not empty, or cannot be made.
    """
    path = Path(target)
    try:
        path.mkdir(parents=True, exist_ok=True)
        first = next(path.iterdir(), None)
    except (FileExistsError, NotADirectoryError) as error:
        raise MountUnavailableError(
            f"{error.filename or target} is a file, not a directory.",
            hint="Give a directory that is empty or not there yet.",
        ) from error
    except OSError as error:
        raise MountUnavailableError(
            f"The directory {target} cannot be made: {error.strerror}.",
            hint="Give a directory that you may write to.",
        ) from error
    if first is not None:
        raise MountUnavailableError(
            f"{target} is not empty (it holds {first.name}); a mount would hide what is in it.",
            hint="Give a directory that is empty or not there yet.",
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise MountUnavailableError(
            f"You may not write to {target}.", hint="Give a directory that you may write to."
        )


def refuse_foreign(target: str, entry: MountEntry) -> MountUnavailableError:
    """The error for a target at which somebody else has mounted something."""
    return MountUnavailableError(
        f"{entry.source} ({entry.fstype}) is mounted at {target} already, and not by mountkit.",
        hint="Give another directory; mountkit never unmounts what it did not mount.",
    )


def unmount(fusermount_path: str, target: str, *, lazy: bool = False) -> str:
    """Unmount; returns "" when done, or what fusermount3 said.

    A lazy unmount takes the mount away from the path at once; open files keep it alive.
    """
    try:
        answer = subprocess.run(
            [fusermount_path, "-u", *(["-z"] if lazy else []), target],
            capture_output=True,
            text=True,
            check=False,
            timeout=UNMOUNT_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"fusermount3 did not come back within {UNMOUNT_SECONDS:.0f} s"
    return "" if answer.returncode == 0 else (answer.stderr.strip() or "fusermount3 failed")


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Poll a cheap condition until it holds or ``timeout`` seconds have gone by."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def bare_files(target: str) -> tuple[tuple[str, int], ...]:
    """Files on the local disk where a mount was, relative to it, with their sizes in bytes.

    None while something is mounted there.
    """
    if mountinfo.at(target) is not None:
        return ()
    places = [(Path(folder), names) for folder, _, names in os.walk(target)]
    return tuple(
        ((place / name).relative_to(target).as_posix(), (place / name).lstat().st_size)
        for place, names in places
        for name in names
    )
