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

    from support.rig import Rig

MIB = 1 << 20
ROOM = 48 * MIB
TO_THE_LAST_BYTE = ("--option", "vfs-cache-min-free-space=off")


@pytest.fixture
def small_disk(rig: Rig) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")
    rig.cache.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=700", "mountkit-test", str(rig.cache)]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.strip()}")
    yield rig.cache
    # At once, whoever still uses it; what a test that failed has left running goes with the rig.
    subprocess.run(["umount", "--lazy", str(rig.cache)], check=True)


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
