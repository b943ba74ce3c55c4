"""Processes that a command has left behind, told by a variable in their environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

from mountkit.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "MOUNTKIT_RUN"
NAMED = 3


def marked(env: Mapping[str, str]) -> dict[str, str]:
    """``env``, by which the processes of this run are known from all others."""
    return {**env, VARIABLE: _mark()}


def still_running() -> tuple[str, ...]:
    """What this run's command started and what still runs: the PID of each, and its name.

    Not its command line, which may hold a secret.
    """
    found = []
    for process in psutil.process_iter(["environ", "name", "status"]):
        told = process.info
        ours = (told["environ"] or {}).get(VARIABLE) == _mark()
        if ours and told["status"] != psutil.STATUS_ZOMBIE:
            found.append(f"{process.pid} ({printable(told['name'] or '?')})")
    return tuple(found)


def warning(found: tuple[str, ...], target: str) -> str:
    """What to tell of them, once nothing is mounted any more; "" if there is none."""
    if not found:
        return ""
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return (
        f"the command ended, and left behind what still runs: process {', '.join(found[:NAMED])}"
        f"{more}; what is written to {target} from now on is not in the store"
    )


def _mark() -> str:
    # The time tells it from an earlier run of that PID, whose processes may be there still.
    return f"{os.getpid()}-{_STARTED}"


_STARTED = int(psutil.Process().create_time() * 1000)
