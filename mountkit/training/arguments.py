"""What a training does to files, as far as its arguments and its state tell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mountkit import names
from mountkit.config import environment
from mountkit.linux import paths
from mountkit.training import requirements

if TYPE_CHECKING:
    from mountkit.mounts.mount import Mount


def asked(args: Any, mount: Mount) -> requirements.Run:
    """What it asks of the mount."""
    events = ""
    if "tensorboard" in args.report_to:
        place = Path(environment.tensorboard_directory() or args.output_dir)
        events = str(place) if Path(paths.resolve(place)).is_relative_to(mount.path) else ""
    return requirements.Run(
        tensorboard=events,
        deepspeed=bool(args.deepspeed),
    )


def best(state: Any) -> int | None:
    """The step of the best checkpoint so far, if Trainer keeps track of one."""
    path = state.best_model_checkpoint
    return names.step_of(Path(path).name) if path else None


def saves_in_lockstep(trainer: Any) -> bool:
    """Whether its ranks wait for each other in the midst of a save.

    FSDP and DeepSpeed gather what they save; with a best step Trainer has a barrier of its own
    (transformers 5.24, ``trainer.py``, ``_save_checkpoint``).
    """
    named = ("is_fsdp_enabled", "is_deepspeed_enabled", "is_distributed_loading_by_transformers")
    return any(getattr(trainer, name, False) for name in named) or bool(
        getattr(trainer.state, "best_global_step", None)
    )
