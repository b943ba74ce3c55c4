"""Read a file of a file system that may hang, through a process that can be given up."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from mountkit.linux import helper

if TYPE_CHECKING:
    from collections.abc import Generator

COPY = f"""
import os, sys
try:
    given = os.open(sys.argv[1], os.O_RDONLY | os.O_NOFOLLOW)
    while piece := os.read(given, {helper.PIECE_BYTES}):
        while piece:
            piece = piece[os.write(1, piece):]
except OSError as error:
    sys.exit(error.errno if error.errno and error.errno < 250 else 1)
"""


def chunks(path: str, silence: float) -> Generator[bytes, None, None]:
    """The bytes of a file, in order.

    Raises OSError if it cannot be read, or nothing comes for ``silence`` seconds.
    """
    with contextlib.closing(helper.stream(["-c", COPY, path], silence)) as pieces:
        try:
            yield from pieces
        except helper.HelperFailedError as error:
            # A subclass by its number: FileNotFoundError, for one.
            raise OSError(error.status, os.strerror(error.status), path) from error
