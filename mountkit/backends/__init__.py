"""One module a backend, all behind the same protocol. A new one is a file and a line here."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from mountkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.backends.base import Backend

CLASSES: Mapping[str, str] = MappingProxyType(
    {"rclone": "RcloneBackend", "mountpoint": "MountpointBackend", "direct": "DirectBackend"}
)
NAMES = tuple(CLASSES)


def load(name: str) -> Backend:
    """The backend of that name.

    Raises UsageError if there is no such backend.
    """
    if name not in CLASSES:
        raise UsageError(
            f"There is no backend called {name!r}.", hint=f"Use one of: auto, {', '.join(NAMES)}."
        )
    backend: Backend = getattr(import_module(f"mountkit.backends.{name}.backend"), CLASSES[name])()
    return backend
