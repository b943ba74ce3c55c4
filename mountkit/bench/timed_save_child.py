"""Save a checkpoint, and say how long it took. A program of its own, killed when a mount hangs.

::

    python -I -S timed_save_child.py DIRECTORY SIZE [--fsync]

Makes DIRECTORY and writes the files of a checkpoint there, one after the other and each from start
to end, as Trainer does: a weight file of SIZE bytes that nothing can compress, and two small ones.
With ``--fsync`` each file is synced before it is closed, which is what has Mountpoint upload it.

Prints one JSON object: ``began`` (on the monotonic clock) and ``seconds``; or, if it failed,
``errno``, ``problem``, ``call`` and ``path``.

Only the standard library is used, so that it starts at once and needs nothing of its environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

WEIGHTS = "model.safetensors"
SMALL = {
    "config.json": b'{"model_type": "bench"}\n' * 40,
    "trainer_state.json": b'{"loss": 2.5, "step": 1}\n' * 200,
}
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
PIECE_BYTES = 1024 * 1024
POOL_BYTES = 16 * PIECE_BYTES
# Odd and no divisor of the pool: the pieces overlap, and no two of them are alike.
STRIDE_BYTES = 1_000_003


class Hands:
    """What is being done right now, for the one who has to say what failed."""

    call = ""
    path = ""

    def write(self, path: str, pieces: Iterable[memoryview], *, fsync: bool) -> None:
        """Write a new file from start to end."""
        self.path = path
        self.call = "open"
        descriptor = os.open(path, FLAGS, 0o666)
        try:
            self.call = "write"
            for piece in pieces:
                left = piece
                while left.nbytes:
                    left = left[os.write(descriptor, left) :]
            if fsync:
                self.call = "fsync"
                os.fsync(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self.call = "close"
        os.close(descriptor)


def weights(pool: memoryview, size: int) -> Iterator[memoryview]:
    """Bytes of a weight file, in pieces."""
    room = pool.nbytes - PIECE_BYTES
    for number, done in enumerate(range(0, size, PIECE_BYTES)):
        start = number * STRIDE_BYTES % room
        yield pool[start : start + min(PIECE_BYTES, size - done)]


def main(words: Sequence[str]) -> None:
    """Save, and print how long it took."""
    directory, size, fsync = words[0], int(words[1]), "--fsync" in words[2:]
    # Made beforehand: a training has its weights in memory already.
    pool = memoryview(os.urandom(POOL_BYTES))
    hands = Hands()
    began = time.monotonic()
    try:
        hands.call, hands.path = "mkdir", directory
        os.mkdir(directory)  # noqa: PTH102 - the plain call is what failed, if it did
        hands.write(f"{directory}/{WEIGHTS}", weights(pool, size), fsync=fsync)
        for name, data in SMALL.items():
            hands.write(f"{directory}/{name}", [memoryview(data)], fsync=fsync)
    except OSError as error:
        problem = error.strerror or str(error)
        failed = {"errno": error.errno, "problem": problem, "call": hands.call, "path": hands.path}
        print(json.dumps(failed))
        return
    print(json.dumps({"began": began, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main(sys.argv[1:])
