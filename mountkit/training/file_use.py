"""What a training does to files, as far as its arguments tell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mountkit.config import environment
from mountkit.linux import paths
from mountkit.training import requirements

if TYPE_CHECKING:
    from mountkit.mounts.mount import Mount


def of(args: Any, mount: Mount) -> requirements.Run:
    """What the training with these arguments asks of a mount."""
    from accelerate.state import AcceleratorState, is_initialized

    # ``accelerate launch`` configures FSDP past the arguments.
    plugin = getattr(AcceleratorState(), "fsdp_plugin", None) if is_initialized() else None
    asked = (args.fsdp_config or {}).get("state_dict_type", "") if args.fsdp else ""
    events = ""
    if "tensorboard" in args.report_to:
        place = Path(environment.tensorboard_directory() or args.output_dir)
        events = str(place) if Path(paths.resolve(place)).is_relative_to(mount.path) else ""
    return requirements.Run(
        sharded_fsdp="SHARDED" in f"{getattr(plugin, 'state_dict_type', '')} {asked}".upper(),
        tensorboard=events,
        deepspeed=bool(args.deepspeed),
        pushes=bool(getattr(args, "push_to_hub", False)) and args.hub_strategy != "end",
    )
