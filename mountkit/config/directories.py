"""Where caches and state lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mountkit.config.settings import Settings


def cache_root(settings: Settings) -> Path:
    """The directory below which each mount has a cache of its own."""
    if settings.cache_dir is not None:
        return settings.cache_dir
    base = _standard("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return base / "mountkit" / "mounts"


def state_root(settings: Settings) -> Path:
    """The private directory that says what is mounted; short, for it holds sockets."""
    if settings.state_dir is not None:
        return settings.state_dir
    runtime = _standard("XDG_RUNTIME_DIR")
    if runtime is not None and runtime.is_dir():
        return runtime / "mountkit"
    return Path(f"/tmp/mountkit-{os.getuid()}")  # noqa: S108 - owner and mode are checked on use


def _standard(name: str) -> Path | None:
    """A standard directory. A relative one is to be ignored (XDG Base Directory Specification)."""
    path = Path(os.environ.get(name, "")).expanduser()
    return path if path.is_absolute() else None
