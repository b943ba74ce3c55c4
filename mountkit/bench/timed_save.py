"""Have a checkpoint saved by a helper process that can be killed, and learn how long it took."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mountkit.bench.timed_save_child import SMALL, WEIGHTS
from mountkit.linux import helper

SCRIPT = Path(__file__).with_name("timed_save_child.py")
FILES = (WEIGHTS, *SMALL)


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

    ``size``: Of the weight file, in bytes. ``fsync``: Whether each file is synced before it is
    closed. ``limit``: When to give up, in seconds.

    Raises SaveError if a call fails, or it takes longer than ``limit``.
    """
    words = [directory, str(size), *(["--fsync"] if fsync else [])]
    ended = helper.run([str(SCRIPT), *words], limit)
    if ended.status is None:
        raise SaveError(0, f"it took longer than {limit:,.0f} s", directory)
    try:
        told = json.loads(ended.out)
    except ValueError:
        said = ended.err or "the helper ended without a word"
        raise SaveError(0, said, directory) from None
    if "began" not in told:
        raise SaveError(told["errno"] or 0, told["problem"], told["path"], told["call"])
    return Saved(told["began"], told["seconds"])
