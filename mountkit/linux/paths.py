"""The directory to mount at: what is there now, and whether it may be used (F9)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.errors import MountUnavailableError, UsageError
from mountkit.linux import mount_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mountkit.linux.mount_table import MountEntry

FUSE_DEVICE = Path("/dev/fuse")
UNMOUNT_SECONDS = 5.0
POLL_SECONDS = 0.1
# As what the mounts of the backends show in the mount table.
BACKENDS = re.compile(r"mountkit-.+|mountpoint-s3")
# As many links as the kernel follows in one path (path_resolution(7)).
MOST_LINKS = 40


def mount_around(path: str, table: Iterable[MountEntry] | None = None) -> str | None:
    """Where the mount of a backend is that an absolute path is or lies in, by the table alone.

    Not every FUSE mount counts: the root of a container may be one, or a home, and there links and
    settings are meant as anywhere else.
    """
    entries = mount_table.read() if table is None else table
    around = [target for target in _targets(entries) if _lies_in(path, target)]
    return max(around, key=len, default=None)


def resolve(path: str | Path, table: Iterable[MountEntry] | None = None) -> str:
    """The absolute path without links, as the kernel would follow them.

    What lies in the mount of a backend, and the mount itself, is never touched, for it may hang:
    from there on the path is taken by its letters. ``table`` is the mount table, by default as it
    is now.

    Raises
    ------
    UsageError
        If it is relative, and the current directory is gone.
    """
    entries = mount_table.read() if table is None else tuple(table)
    untouched = _targets(entries)
    # Nothing at which something is mounted is a link.
    mounted = {entry.target for entry in entries}
    done, links = "/", 0
    rest = [*reversed(_absolute(path).split("/"))]
    while rest:
        name = rest.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            done = os.path.dirname(done)  # noqa: PTH120 - of a text
            continue
        here = f"{done.rstrip('/')}/{name}"
        plain = here in mounted or links == MOST_LINKS
        link = "" if plain or any(_lies_in(here, one) for one in untouched) else _link(here)
        if not link:
            done = here
            continue
        links += 1
        done = "/" if link.startswith("/") else done
        rest.extend(reversed(link.split("/")))
    return done


def _targets(table: Iterable[MountEntry]) -> tuple[str, ...]:
    """Where the backends have mounted."""
    return tuple(entry.target for entry in table if BACKENDS.fullmatch(entry.source))


def _lies_in(path: str, target: str) -> bool:
    return path == target or path.startswith(f"{target.rstrip('/')}/")


def _absolute(path: str | Path) -> str:
    expanded = Path(path).expanduser()
    if expanded.is_absolute():
        return str(expanded)
    try:
        # The kernel knows it without asking the file system.
        return str(Path.cwd() / expanded)
    except FileNotFoundError as error:
        raise UsageError(
            f"{path} is relative, and the current directory is gone.",
            hint="Give the whole path, or change to a directory that is there.",
        ) from error


def _link(path: str) -> str:
    """What a link says; "" for what is none, is not there, or may not be looked at."""
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


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
            # Ours may lie in that very mount.
            cwd="/",
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
    if mount_table.at(target) is not None:
        return ()
    places = [(Path(folder), names) for folder, _, names in os.walk(target)]
    found = (
        ((place / name).relative_to(target).as_posix(), (place / name).lstat().st_size)
        for place, names in places
        for name in names
    )
    return tuple(sorted(found))
