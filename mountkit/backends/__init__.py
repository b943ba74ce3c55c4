"""One module a backend, all behind the same protocol. A new one is a file and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.errors import UsageError

if TYPE_CHECKING:
    from mountkit.backends.protocol import Backend

NAMES = ("rclone",)


def choose(name: str) -> str:
    """The backend that ``auto`` stands for; a name that is known stands for itself.

    Raises
    ------
    UsageError
        If there is no such backend.
    """
    if name == "auto":
        return "rclone"
    if name == "mountpoint":
        raise UsageError(
            "The mountpoint backend is not there yet.", hint="Use --backend rclone (or auto)."
        )
    if name not in NAMES:
        raise UsageError(
            f"There is no backend called {name!r}.", hint=f"Use one of: auto, {', '.join(NAMES)}."
        )
    return name


def load(name: str) -> Backend:
    """The backend of that name, as ``choose`` returned it."""
    choose(name)
    from mountkit.backends.rclone import RcloneBackend

    return RcloneBackend()
