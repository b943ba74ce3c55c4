"""What a test needs of Python packages, without loading them: torch alone takes seconds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

#: Beside the environment: where it can be imported, accelerate loads it in every training.
DEEPSPEED = next(Path(sys.prefix).glob("deepspeed-*"), None)


def needs(*packages: str) -> None:
    """Skip a test, or a whole module of them, where a package is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed", allow_module_level=True)
