"""What a training run asks of a file system that not every backend has. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True)
class Run:
    """What decides about the files a run writes below ``output_dir``.

    ``tensorboard``: where its events go, if that is in the mount, else "". ``deepspeed``: DeepSpeed
    saves. ``pushes``: each save is pushed to the Hub.
    """

    tensorboard: str = ""
    deepspeed: bool = False
    pushes: bool = False


def refuse(run: Run, backend: str, refuses: Collection[str]) -> None:
    """Refuse a run that would fail at its first save, or lose its events.

    Raises ConfigurationError, naming what the run does, and what to change.
    """
    if "append" in refuses and run.tensorboard:
        raise _cannot(
            backend,
            f"TensorBoard appends to its events in {run.tensorboard}",
            "Add mountkit.RunLogCallback() to the callbacks, which has them written locally "
            "and copied into the mount, or set TENSORBOARD_LOGGING_DIR to a local directory",
        )
    if "chmod" in refuses and run.deepspeed:
        raise _cannot(
            backend, "DeepSpeed changes the mode of a file in each save", "Train without it"
        )
    if "chmod" in refuses and run.pushes:
        raise _cannot(
            backend,
            "push_to_hub copies the model with its mode at each save",
            "Push the model after the training",
        )


def _cannot(backend: str, what: str, instead: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what}, and a {backend} mount cannot do that.",
        hint=f"{instead}, or mount with --backend rclone.",
    )
