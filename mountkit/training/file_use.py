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
    from accelerate.state import AcceleratorState, is_initialized

    # ``accelerate launch`` configures FSDP past the arguments.
    plugin = getattr(AcceleratorState(), "fsdp_plugin", None) if is_initialized() else None
    asked = (args.fsdp_config or {}).get("state_dict_type", "") if args.fsdp else ""
    return requirements.Run(
        sharded_fsdp="SHARDED" in f"{getattr(plugin, 'state_dict_type', '')} {asked}".upper(),
        tensorboard="" if events_are_mirrored else tensorboard_events.inside(args, mount),
        deepspeed=bool(args.deepspeed),
    )
