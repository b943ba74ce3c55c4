"""Print all that ``pyproject.toml`` requires, to build and to run, with every extra."""

# ruff: noqa: INP001 - a script, not a package

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    # Python 3.10 has no TOML reader of its own, but the pip beside it has.
    from pip._vendor import tomli as tomllib

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
