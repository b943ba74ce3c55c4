"""What is told of a training by mountkit itself, where the script does not know of it."""

from __future__ import annotations

import contextlib
import sys


def say(text: str) -> None:
    """One line on stderr, also where the script has set up no logging."""
    # The stderr is the script's, which may have closed it: no reason to end its training.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"mountkit: {' '.join(text.split())}\n")
        sys.stderr.flush()
