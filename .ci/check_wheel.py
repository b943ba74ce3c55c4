"""Check what is in a wheel: the package, its licence and type marker, and nothing else."""

# ruff: noqa: INP001 - a script, not a package

from __future__ import annotations

import sys
import zipfile
from pathlib import PurePosixPath

REQUIRED = ("mountkit/__init__.py", "mountkit/py.typed", "mountkit/cli/__init__.py")


def complaints(names: list[str]) -> list[str]:
    """Say what is wrong with a wheel that holds these files."""
    found = [f"{name} is missing." for name in REQUIRED if name not in names]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        found.append("The licence is missing.")
    for name in names:
        parts = PurePosixPath(name).parts
        if parts[0] != "mountkit" and not parts[0].endswith(".dist-info"):
            found.append(f"{name} is outside the package.")
        elif "tests" in parts or parts[-1].startswith(("test_", "conftest")):
            found.append(f"{name} is a test.")
        elif parts[0] == "mountkit" and parts[-1].endswith(".md"):
            found.append(f"{name} is a document of the clone.")
        elif parts[-1].endswith((".pyc", ".log")):
            found.append(f"{name} was made while running, and is no source.")
    return found


def main(wheel: str) -> int:
    """Print what is wrong with the wheel; 1 if anything is."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    found = complaints(names)
    for line in found:
        print(f"{wheel}: {line}")
    if found:
        print(f"List the wheel with: python -m zipfile -l {wheel}")
        return 1
    print(f"The wheel holds {len(names)} files, and no tests.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
