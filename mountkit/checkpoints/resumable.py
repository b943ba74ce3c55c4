"""Whether a checkpoint has all that a training needs to go on from it. Pure.

Trainer takes a checkpoint without its optimizer, scheduler or RNG state for what it is, begins
with new ones, and says nothing (transformers 5.24, ``_load_optimizer_and_scheduler``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mountkit.names import TRAINER_STATE

if TYPE_CHECKING:
    from collections.abc import Iterable

# Each rank's, a node's, or that of all: Trainer's own, FSDP's (whole, sharded, without DCP), those
# of an accelerator. DeepSpeed keeps the optimizer in a folder of its own, and mostly the scheduler.
_OPTIMIZER = re.compile(
    r"optimizer\.(?:pt|bin)(?:_.*)?|rank\d+-of-\d+-optimizer\.pt|optimizer_\d+_rank\d+\.bin"
    r"|[^/]*optimizer[^/]*/.+"
)
_DEEPSPEED = re.compile(r"global_step\d+/.*optim_states\.pt")
_SCHEDULER = re.compile(r"scheduler\.pt")
_RNG = re.compile(r"rng_state(?:_\d+)?\.pth")


def refusal(paths: Iterable[str], *, weights_only: bool = False) -> str:
    """Why a training cannot go on from a checkpoint of these files, a sentence's end; "" if it can.

    ``paths``: Relative to the checkpoint. ``weights_only``: Its weights alone are asked for.
    """
    if weights_only:
        return ""
    found = tuple(paths)
    deepspeed = _has(found, _DEEPSPEED)
    needed = {
        "no trainer_state.json": TRAINER_STATE in found,
        "no optimizer": deepspeed or _has(found, _OPTIMIZER),
        "no scheduler": deepspeed or _has(found, _SCHEDULER),
        "no RNG state": _has(found, _RNG),
    }
    missing = [name for name, there in needed.items() if not there]
    if not missing:
        return ""
    return f"a training cannot go on from it: it has {', '.join(missing)}"


def _has(paths: Iterable[str], pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(path) for path in paths)
