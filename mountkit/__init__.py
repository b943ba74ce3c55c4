"""Mount a bucket at the Trainer's output_dir, and prove that every checkpoint is really in it.

Importing this module is cheap: torch, transformers and the client of a store are loaded when
they are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mountkit._version import __version__

if TYPE_CHECKING:
    from mountkit.api import latest_checkpoint, mount, verify_checkpoint
    from mountkit.mounts.mount import Mount
    from mountkit.training.callback import CheckpointCallback
    from mountkit.training.run_log import RunLogCallback

__all__ = [
    "CheckpointCallback",
    "Mount",
    "RunLogCallback",
    "__version__",
    "latest_checkpoint",
    "mount",
    "verify_checkpoint",
]

_HOMES = {
    "CheckpointCallback": "mountkit.training.callback",
    "Mount": "mountkit.mounts.mount",
    "RunLogCallback": "mountkit.training.run_log",
    "latest_checkpoint": "mountkit.api",
    "mount": "mountkit.api",
    "verify_checkpoint": "mountkit.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mountkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
