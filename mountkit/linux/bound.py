"""A program that ends with this process, however this process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCRIPT = str(Path(__file__).with_name("bound_child.py"))


def start(
    argv: Sequence[str], env: Mapping[str, str], stdin: int, output: int
) -> subprocess.Popen[bytes]:
    """Start ``argv``, with a small process of its own between that waits for either's end.

    The kernel can end a process with the *thread* that started it, and threads come and go. To end
    the program, end what is returned: the kernel ends the program with it. ``stdin`` and ``output``
    are descriptors, of which the latter gets all that the program says.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", SCRIPT, str(os.getpid()), *argv],
        env=dict(env),
        stdin=stdin,
        stdout=output,
        stderr=output,
        # Ours may lie in a mount that hangs.
        cwd="/",
        # The interrupt of a terminal is ours to handle.
        start_new_session=True,
    )
