"""Whether a checkpoint that lies in a mount was saved to its end."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from mountkit.errors import Unproven
from mountkit.names import SAME_SAVE_SECONDS, TRAINER_STATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mountkit.backends.base import WrittenFile
    from mountkit.mounts.mount import Mount
    from mountkit.store.base import Store

# Lies in a checkpoint that Trainer saves on a signal, until all of it is saved (transformers 5.24,
# ``trainer_jit_checkpoint.py``).
INCOMPLETE = "checkpoint-is-incomplete.txt"
LACKS_LINES = (
    "it lacks lines, as where its disk was full or the machine went down: what a program wrote to "
    "the mount then, and passed over an error of, is not known"
)
# A file that one of several ranks writes (transformers 5.24, ``trainer.py``, _save_rng_state;
# accelerate's FSDP; torch's distributed checkpoints; DeepSpeed).
_OF_A_RANK = re.compile(
    r"/rng_state_\d+\.pth$|(?:model|fsdp|optimizer)\w*_rank_?\d+\.bin$|rank\d+-of-\d+"
    r"|zero_pp_rank_\d+|__\d+_\d+\.distcp$"
)
# What Trainer writes before the state (transformers 5.23, ``trainer.py``, _save_checkpoint).
BEFORE_THE_STATE = (
    "model", "pytorch_model", "adapter", "optimizer", "scheduler", "scaler", "training_args",
)  # fmt: skip


def is_complete(
    mount: Mount,
    top: str,
    step: int,
    members: Sequence[WrittenFile],
    *,
    ended_well: bool,
    store: Store,
) -> bool:
    """Whether a save came to its end; what a run that died has left may be torn (F11).

    ``top``: The checkpoint, relative to the mount. ``members``: What was written of it, by this run
    or by an earlier one. ``ended_well``: Whether what this run wrote the files with says that it
    finished. ``store``: That of the mount, asked for what is not on this machine any more.
    """
    record = mount.last_record()
    ours = record is not None and all(file.modified >= record.began for file in members)
    if record is not None and not ours:
        # Every loss since, of that run's mount and of this one.
        if straddles(record.lost, [file.modified for file in members]):
            return False
        if any(path.startswith(f"{top}/") for path, _ in record.strays_before):
            return False
    bypassed = mount.directory.bypassed
    save_started_at = max(
        bypassed.save_started_at().get(top, 0.0), bypassed.partially_deleted().get(top, 0.0)
    )
    # A shell that ends well says little of what it ran ("python train.py | tee log").
    alone = not (ours and ended_well)
    if not _came_last(top, members, save_started_at, alone=alone):
        return False
    # That an earlier run has named it does not make it whole.
    if mount.control().lost_before(top):
        return False
    # Of what was refused then, nobody knows.
    if missing_from_log(mount, [file.modified for file in members]):
        return False
    # A removal that broke off may leave the state, and some of the rest.
    if top in mount.control().partially_deleted(top):
        return False
    # The callback notes that a save begins, and each rank that its part is over, or it may be torn.
    # What is saved through other mounts too, is proven where that is known: by the callback alone.
    marked = mount.directory.ranks.read(top)
    if marked is not None and ours and record is not None and marked.at < record.began:
        # Of an earlier run; this one has saved all of it anew without the callback.
        marked = None
    if marked is not None and not marked.whole:
        return False
    # Nobody knows how many there were, and one that was killed may have been the first to fail.
    if marked is None and alone and any(_OF_A_RANK.search(file.path) for file in members):
        return False
    sentinel = f"{top}/{INCOMPLETE}"
    if any(file.path == sentinel for file in members) or store.get(sentinel) is not None:
        return False
    return _has_trainer_state(mount, store, top, step)


def missing_from_log(mount: Mount, changed: Sequence[float]) -> bool:
    """Whether the daemon's log lacks lines of the time of these changes, from first to last."""
    gaps = mount.control().log_gaps() if changed else ()
    return any(min(changed) <= gap.until and gap.since <= max(changed) for gap in gaps)


def untold_gaps(mount: Mount) -> tuple[Unproven, ...]:
    """The daemon's log, if it lacks lines of which no earlier run has told."""
    record = mount.last_record()
    told = record.told_until if record is not None else 0.0
    # One that an earlier run has told of may have gone on.
    lacking = any(gap.until > told for gap in mount.control().log_gaps())
    return (Unproven(str(mount.directory.log), 0, LACKS_LINES),) if lacking else ()


def straddles(lost: Iterable[float], changed: Sequence[float]) -> bool:
    """Whether the mount was lost after the first and before the last of these changes."""
    return any(min(changed) <= moment <= max(changed) for moment in lost if changed)


def _came_last(
    top: str, members: Iterable[WrittenFile], save_started_at: float, *, alone: bool
) -> bool:
    """Whether the state was written after the weights and the optimizer, as Trainer does.

    One that broke off leaves new weights beside the state of an older save. With ``alone``, after
    every other file. ``begun`` is when the last save of it began, or when files of it were missed,
    if that is known.
    """
    changed = {file.path[len(top) + 1 :]: file.modified for file in members}
    state = changed.get(TRAINER_STATE, 0.0)
    if state < save_started_at:
        return False
    before = [at for name, at in changed.items() if alone or name.startswith(BEFORE_THE_STATE)]
    return max(before, default=0.0) - state <= SAME_SAVE_SECONDS


def _has_trainer_state(mount: Mount, store: Store, top: str, step: int) -> bool:
    """Whether it has the state of its step."""
    path = f"{top}/{TRAINER_STATE}"
    # Not through the mount: nothing may wait for one that hangs.
    data = mount.control().content(path) or store.get(path)
    try:
        content = json.loads(data or b"")
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("global_step") == step
