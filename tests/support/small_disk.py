"""A cache on a disk of its own that is soon full."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.rig import Job, Rig

MIB = 1 << 20
ROOM = 48 * MIB
TO_THE_LAST_BYTE = ("--option", "vfs-cache-min-free-space=off")


@pytest.fixture
def small_disk(rig: Rig) -> Iterator[Path]:
    """Of the cache."""
    with _disk(rig.cache, ROOM) as disk:
        yield disk


@pytest.fixture
def small_state(rig: Rig) -> Iterator[Path]:
    """Of the state directory, with the daemon's log in it."""
    with _disk(rig.state, MIB) as disk:
        yield disk


@contextlib.contextmanager
def _disk(place: Path, size: int) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")
    place.mkdir(mode=0o700)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "mountkit-test", str(place)]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        # At once, whoever uses it still; what a failed test has left running goes with the rig.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def full_for_a_while(rig: Rig, job: Job, disk: Path) -> None:
    """A disk, from when the program has written something to when it was refused."""
    rig.await_word("written", job)
    filler = fill(disk)
    rig.say("full")
    rig.await_word("refused", job)
    filler.unlink()
    rig.say("room")


def fill(disk: Path) -> Path:
    """Take all the room there is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(MIB // 4))
    with filler.open("ab", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(512))
    return filler
