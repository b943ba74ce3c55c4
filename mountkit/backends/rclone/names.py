"""Which names a program does not find again, as rclone writes them: see ``store.rclone_names``."""

from __future__ import annotations

from mountkit.store.rclone_names import QUOTE, STANDARD, STORED, stored

__all__ = ["keeps", "stored"]

#: In the cache, and in a key, each of these may come of a name that was another one.
ALTERED = frozenset(QUOTE) | (STANDARD.keys() - STORED.values())


def keeps(path: str) -> bool:
    """Whether what is stored as ``path`` has that name for the program that wrote it."""
    return ALTERED.isdisjoint(path)
