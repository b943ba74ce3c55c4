"""What is trained and with what, in words."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from mountkit._version import __version__

LIBRARIES = ("transformers", "torch", "accelerate", "peft", "trl", "datasets")


def describe(model: Any, args: Any) -> str:
    """The model's class, its size and its configuration, the versions, and Trainer's arguments.

    The arguments are without tokens: ``to_json_string`` leaves them out.
    """
    lines = [
        f"model: {type(model).__module__}.{type(model).__qualname__}",
        *_size(model),
        f"mountkit: {__version__}",
        f"python: {platform.python_version()}",
        *(f"{name}: {version}" for name in LIBRARIES if (version := _version(name))),
    ]
    config = getattr(model, "config", None)
    to_json = getattr(config, "to_json_string", None)
    if to_json is not None:
        lines += ["", "configuration:", to_json().rstrip()]
    lines += ["", "arguments:", args.to_json_string()]
    return "\n".join([*lines, "", "modules:", str(model), ""])


def _size(model: Any) -> list[str]:
    if not hasattr(model, "parameters"):
        return []
    parameters = list(model.parameters())
    total = sum(each.numel() for each in parameters)
    trained = sum(each.numel() for each in parameters if each.requires_grad)
    return [f"parameters: {total:,}, of which {trained:,} are trained"]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
