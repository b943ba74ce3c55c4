"""Have a checkpoint saved by a helper process that can be killed, and learn how long it took."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mountkit.bench.timed_save_child import SMALL, WEIGHTS

SCRIPT = Path(__file__).with_name("timed_save_child.py")
FILES = (WEIGHTS, *SMALL)
REAP_SECONDS = 1.0
SAID_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Saved:
    """A save: when it began, on the monotonic clock, and how long it blocked, in seconds."""

    began: float
    seconds: float


class SaveError(OSError):
    """A save that failed. ``call`` is the one that did, "" if there was none."""

    def __init__(self, number: int, problem: str, path: str, call: str = "") -> None:
        super().__init__(number, problem, path)
        self.call = call


def save(directory: str, size: int, *, fsync: bool, limit: float) -> Saved:
    """Save a checkpoint to ``directory``, which is not there yet.

    Parameters
    ----------
    size:
        Of the weight file, in bytes.
    fsync:
        Whether each file is synced before it is closed.
    limit:
        When to give up, in seconds.

    Raises
    ------
    SaveError
        If a call fails, or it takes longer than ``limit``.
    """
    words = [directory, str(size), *(["--fsync"] if fsync else [])]
    helper = subprocess.Popen(
        [sys.executable, "-I", "-S", str(SCRIPT), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # The interrupt of a terminal is ours to handle, and not for each process of its own.
        start_new_session=True,
    )
    try:
        out, err = helper.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise SaveError(0, f"it took longer than {limit:,.0f} s", directory) from None
    finally:
        if helper.poll() is None:
            helper.kill()
            # In an uninterruptible wait it ends only when the mount does; Popen reaps it then.
            with contextlib.suppress(subprocess.TimeoutExpired):
                helper.wait(REAP_SECONDS)
    return _read(out, err, directory)


def _read(out: bytes, err: bytes, directory: str) -> Saved:
    """Understand what the helper printed."""
    try:
        told = json.loads(out)
    except ValueError:
        lines = err.decode(errors="replace").strip().splitlines()
        said = lines[-1][:SAID_CHARACTERS] if lines else "the helper ended without a word"
        raise SaveError(0, said, directory) from None
    if "began" not in told:
        raise SaveError(told["errno"] or 0, told["problem"], told["path"], told["call"])
    return Saved(told["began"], told["seconds"])
