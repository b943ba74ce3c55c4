"""What an image has beside its base, torch and transformers: mountkit, its daemons, what they need.

docker run --rm -i --entrypoint python IMAGE - < docker/own_size.py
"""

# ruff: noqa: INP001 - a script, no package

from __future__ import annotations

import re
import sys
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path

DAEMONS = (Path("/usr/local/bin/mount-s3"), Path("/usr/local/bin/mountkit-entrypoint"))
THEIRS = ("torch", "transformers", "accelerate")


def with_needs(names: tuple[str, ...]) -> set[str]:
    """These packages, and all installed ones that they require, extras left out."""
    found: set[str] = set()
    waiting = [normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        needed = [line for line in requires if "extra ==" not in line]
        waiting += [normal(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in needed]
    return found


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def files(distribution: metadata.Distribution) -> set[Path]:
    """What a package has on the disk, its bytecode included."""
    listed = {
        Path(str(distribution.locate_file(file))).resolve() for file in distribution.files or []
    }
    compiled = {Path(cache_from_source(str(path))) for path in listed if path.suffix == ".py"}
    return {path for path in listed | compiled if path.is_file()}


def main() -> None:
    """Print a line a package, and the sum, as it is on a disk."""
    theirs = with_needs(THEIRS)
    own = {normal(each.metadata["Name"]): files(each) for each in metadata.distributions()}
    # torch gets some of CUDA's by extras of others.
    own = {
        name: paths
        for name, paths in own.items()
        if name not in theirs and not name.startswith(("nvidia-", "cuda-"))
    }
    own |= {path.name: {path} for path in DAEMONS if path.exists()}
    sizes = {name: sum(path.stat().st_size for path in paths) for name, paths in own.items()}
    for name, size in sorted(sizes.items(), key=lambda each: -each[1]):
        if size >= 1e6:
            print(f"{size / 1e6:7.1f} MB  {name}")
    print(f"{sum(sizes.values()) / 1e6:7.1f} MB  in all")


if __name__ == "__main__":
    sys.exit(main())
