"""Where TensorBoard's events go, and that they go to the local disk instead of a mount.

TensorBoard opens its file anew for each flush, and appends to it: Mountpoint for S3 refuses that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mountkit.config import environment
from mountkit.linux import paths

if TYPE_CHECKING:
    from mountkit.mounts.mount import Mount
    from mountkit.training.log_files import LogFiles

FOLDER = "tensorboard"


def inside(args: Any, mount: Mount) -> str:
    """Where the events of a training would go if that is in the mount, else ""."""
    if "tensorboard" not in args.report_to:
        return ""
    place = environment.tensorboard_directory() or args.output_dir
    return str(place) if _lies_in(place, mount) else ""


def redirect(callback: Any, state: Any, files: LogFiles) -> bool:
    """Have a TensorBoardCallback write to the local disk, before it opens its file.

    False if it has a file open already, in the mount. (transformers 5.24,
    ``integration_utils.py``: it opens one at the beginning of a training where it has none.)
    """
    mount = files.mount
    default = files.local / FOLDER
    if callback.tb_writer is not None:
        place = getattr(callback.tb_writer, "log_dir", "")
        if mount is not None and place:
            if _lies_in(place, mount):
                return False
            files.adopt(Path(place), files.top / FOLDER)
        return True
    place = callback.logging_dir
    if place is None or state.is_hyper_param_search:
        callback.logging_dir = str(default)
    elif mount is not None and not files.keeps(Path(place)):
        if _lies_in(place, mount):
            callback.logging_dir = str(files.folder_for(Path(paths.resolve(place))))
        else:
            files.adopt(Path(place), files.top / FOLDER)
    if state.is_hyper_param_search and state.trial_name is not None:
        # It would put its folder of this trial below output_dir.
        from torch.utils.tensorboard import SummaryWriter

        callback.tb_writer = SummaryWriter(log_dir=str(default / state.trial_name))
    return True


def _lies_in(place: str, mount: Mount) -> bool:
    return Path(paths.resolve(place)).is_relative_to(mount.path)
