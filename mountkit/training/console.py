"""What is told of a training by mountkit itself, where the script does not know of it."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """One line on stderr, also where the script has set up no logging."""
    sys.stderr.write(f"mountkit: {' '.join(text.split())}\n")
    sys.stderr.flush()
