"""Which machine this is, and whether a process that somebody wrote down still runs on it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from mountkit.linux.process import boot_id

NAMESPACE = Path("/proc/self/ns/pid")


def host() -> str:
    """The name of this machine, as people know it."""
    return socket.gethostname()


def place() -> str:
    """Where a PID means the same process: this start of the machine, and this PID namespace.

    "" where the kernel hides it: then nobody can tell.
    """
    try:
        namespace = str(NAMESPACE.readlink())
    except OSError:
        return ""
    return f"{boot_id()} {namespace}" if boot_id() else ""


def runs(pid: int, started: int) -> bool:
    """Whether that process runs here, whoever's it is. In doubt it does."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        # Somebody else's; or a number that no process has, which nobody should rely on.
        pass
    try:
        stat = (Path("/proc") / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        return True
    fields = stat.rpartition(")")[2].split()
    return fields[0] != "Z" and int(fields[19]) == started
