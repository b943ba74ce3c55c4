"""Read a file that may hang, through a process that can be given up."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

PIECE_BYTES = 1024 * 1024
REAP_SECONDS = 1.0
COPY = f"""
import os, sys
try:
    given = os.open(sys.argv[1], os.O_RDONLY | os.O_NOFOLLOW)
    while piece := os.read(given, {PIECE_BYTES}):
        while piece:
            piece = piece[os.write(1, piece):]
except OSError as error:
    sys.exit(str(error.errno))
"""


def chunks(path: str, silence: float) -> Generator[bytes, None, None]:
    """The bytes of a file, in order.

    Raises OSError if it cannot be read; TimeoutError if nothing comes for ``silence`` seconds.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", COPY, path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101 - for mypy
    assert process.stderr is not None  # noqa: S101 - for mypy
    try:
        yield from _pieces(process.stdout.fileno(), path, silence)
        status = process.wait(REAP_SECONDS)
        if status:
            said = process.stderr.read().decode().strip()
            number = int(said) if said.isdigit() else 0
            raise OSError(number, os.strerror(number) if number else f"status {status}", path)
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()
        # In an uninterruptible wait it ends when its file system answers; Popen reaps it then.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(REAP_SECONDS)


def _pieces(descriptor: int, path: str, silence: float) -> Iterator[bytes]:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        began = time.monotonic()
        if not poll.poll(silence * 1000):
            waited = time.monotonic() - began
            raise TimeoutError(0, f"its file system said nothing for {waited:.0f} s", path)
        piece = os.read(descriptor, PIECE_BYTES)
        if not piece:
            return
        yield piece
