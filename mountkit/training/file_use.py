"""What a training does to files, as far as its arguments tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mountkit.training import requirements, tensorboard_events

if TYPE_CHECKING:
    from mountkit.mounts.mount import Mount


def of(args: Any, mount: Mount, *, events_are_mirrored: bool = False) -> requirements.Run:
    """What the training with these arguments asks of a mount.

    TensorBoard's events do not go there where they are mirrored.
    """
    return requirements.Run(
        tensorboard="" if events_are_mirrored else tensorboard_events.inside(args, mount),
        deepspeed=bool(args.deepspeed),
        pushes=bool(getattr(args, "push_to_hub", False)) and args.hub_strategy != "end",
    )
