"""Print all that ``pyproject.toml`` requires, to build and to run, with every extra."""

# ruff: noqa: INP001 - a script, not a package

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def requirements(pyproject: str) -> list[str]:
    """All requirement strings in the text of a ``pyproject.toml``, sorted."""
    table = tomllib.loads(pyproject)
    project = table["project"]
    extras = project.get("optional-dependencies", {})
    return sorted(
        {
            *table["build-system"]["requires"],
            *project["dependencies"],
            *(line for lines in extras.values() for line in lines),
        }
    )


if __name__ == "__main__":
    print("\n".join(requirements((ROOT / "pyproject.toml").read_text())))
