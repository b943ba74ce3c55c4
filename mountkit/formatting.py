"""How values read to people."""

from __future__ import annotations


def printable(name: str) -> str:
    """A name as people can read it: quoted if it holds newlines or the like (F39)."""
    return name if name.isprintable() else repr(name)
