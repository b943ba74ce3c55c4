"""The kernel's end of a FUSE mount: how many requests wait, and how to cut it off.

The files are those of ``Documentation/filesystems/fuse.rst``. They belong to the user who mounted
and are there only where ``/sys/fs/fuse/connections`` is mounted; without them a daemon that hangs
is ended all the same, which ends its connection too.
"""

from __future__ import annotations

from pathlib import Path

CONNECTIONS = Path("/sys/fs/fuse/connections")


def waiting(device: int, connections: Path = CONNECTIONS) -> int | None:
    """How many requests the daemon has not answered; None if the kernel does not say."""
    try:
        return int((connections / str(device) / "waiting").read_text())
    except (OSError, ValueError):
        return None


def abort(device: int, connections: Path = CONNECTIONS) -> bool:
    """Fail everything that waits on the mount with that device. Whether it could be done."""
    try:
        (connections / str(device) / "abort").write_text("1")
    except OSError:
        return False
    return True
