"""The program that mounts and unmounts for ordinary users."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

from mountkit.errors import MountUnavailableError

FUSE_DEVICE = Path("/dev/fuse")
MOUNT_TABLE = Path("/etc/mtab")
CONTAINER = "--device /dev/fuse --cap-add SYS_ADMIN"
UNMOUNT_SECONDS = 5.0


def fusermount(search_path: str) -> str:
    """The program that mounts and unmounts for ordinary users.

    Raises MountUnavailableError if it, the device, or its mount table is missing.
    """
    check_device()
    check_table()
    return program(search_path)


def check_device() -> None:
    """Open the device, and not only look at it: a container's rules about devices show only then.

    Raises MountUnavailableError if it is missing, or may not be opened.
    """
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise not_opened(error) from error


def check_table(table: Path = MOUNT_TABLE, user: int | None = None) -> None:
    """See that what is mounted can be unmounted again.

    fusermount3 looks into the table whether a mount is its user's. Docker puts it into every
    container; containerd, and with it Kubernetes, does not.

    Raises MountUnavailableError if it is missing.
    """
    if (os.geteuid() if user is None else user) != 0 and not table.exists():
        raise MountUnavailableError(
            f"{table} is missing: an ordinary user could mount, and not unmount again.",
            hint=f"Make it in the container's image: ln -s /proc/self/mounts {table}",
        )


def not_opened(error: OSError) -> MountUnavailableError:
    """The error for a device that cannot be opened, by why it cannot."""
    if isinstance(error, FileNotFoundError):
        return MountUnavailableError(
            f"{FUSE_DEVICE} is missing: this machine or container has no FUSE.",
            hint=f"Load it: modprobe fuse; in a container: {CONTAINER}",
        )
    what = f"{FUSE_DEVICE} may not be opened: {error.strerror}."
    if error.errno == errno.EPERM:
        # Not the mode of the file, but the devices that the container may use at all.
        return MountUnavailableError(what, hint=f"Start the container with: {CONTAINER}")
    if error.errno == errno.EACCES:
        # An engine gives the device the mode that it has on the machine.
        open_it = f"Open it to everybody, as udev does: chmod 666 {FUSE_DEVICE}"
        return MountUnavailableError(
            what, hint=f"{open_it}; for a container do so on its machine, before it starts"
        )
    return MountUnavailableError(what, hint="Load it: modprobe fuse; see why: dmesg | grep fuse")


def program(search_path: str) -> str:
    """Where it is. Raises MountUnavailableError if it is missing."""
    path = shutil.which("fusermount3", path=search_path)
    if path is None:
        raise MountUnavailableError(
            "There is no fusermount3 on PATH.", hint="Install it: apt-get install fuse3"
        )
    return path


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
