"""What a training is resumed with is loaded whole, also where its mount is lost meanwhile.

Trainer asks whether the file of its state, of the optimizer, of the random numbers and so on is
there, and goes on with new ones where it is not, in silence: without its state, from step 0. In a
mount that is gone just then, nothing is there.
(transformers 5.24: ``_init_training_state``, ``_load_optimizer_and_scheduler``,
``_load_rng_state``, ``_load_best_model``.)
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mountkit.config import settings, timeouts
from mountkit.errors import MountUnavailableError
from mountkit.mounts.mount import Mount
from mountkit.training.console import say
from mountkit.training.trainer_hooks import Call, hook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: What loads something, and which of its arguments is the checkpoint.
LOADS: Mapping[str, int] = MappingProxyType(
    {
        "_load_from_checkpoint": 0,
        "_init_training_state": 3,
        "_load_optimizer_and_scheduler": 0,
        "_load_scaler": 0,
        "_load_rng_state": 0,
        "_load_best_model": 0,
    }
)
#: The last of them before the first step, when all else is loaded.
LAST = "_load_rng_state"
#: So often a mount may be lost while one thing is loaded.
TRIES = 5


def watch(trainer: type[Any]) -> None:
    """Have every Trainer load what it is resumed with from a mount that serves all the while.

    A transformers that loads something in another way is left alone.
    """
    for name in LOADS:
        if hasattr(trainer, name):
            hook(trainer, name, functools.partial(load, name=name))


def load(
    trainer: Any,
    call: Call,
    find: Callable[[str], Mount | None] = Mount.containing,
    *,
    name: str = LAST,
) -> Any:
    """Load it; once more where the mount was lost meanwhile.

    Raises MountUnavailableError if the mount does not come back, is lost again and again, or if
    many ranks load together: one of them cannot do so once more. Also before the first step, if
    the training is not at the checkpoint's.
    """
    position = LOADS[name]
    place = call.argument(position, "resume_from_checkpoint")
    place = place or call.argument(position, "checkpoint")
    if place is None and name == "_load_best_model":
        place = getattr(getattr(trainer, "state", None), "best_model_checkpoint", None)
    mount = find(place) if isinstance(place, str) else None
    if mount is None:
        return call()
    limit = timeouts.limits(settings.load()).repair
    cause: Exception | None = None
    for _ in range(TRIES):
        mount.wait_until_serving(limit)
        before = _losses(mount)
        try:
            result = call()
        except Exception as error:
            # Of weights that it does not find, Trainer says with a ValueError that there are none.
            if _served(mount, before):
                raise
            cause = error
        else:
            if _served(mount, before):
                if name == LAST:
                    _check_step(trainer, place)
                return result
        if _together(trainer):
            break
        say(f"the mount was lost while {place} was loaded; it is loaded once more")
    raise MountUnavailableError(
        f"The mount at {mount.path} was lost while {place} was loaded, so the training may have "
        "only some of it.",
        hint="Start the same command again; see what became of the mount: "
        f"mountkit status {mount.path}",
    ) from cause


def _check_step(trainer: Any, place: str) -> None:
    """A transformers may load its state elsewhere than here, and not find it, in silence."""
    try:
        saved = json.loads((Path(place) / "trainer_state.json").read_bytes()).get("global_step")
    except FileNotFoundError:
        return
    begins = trainer.state.global_step
    if saved is not None and saved != begins:
        raise MountUnavailableError(
            f"The training would begin at step {begins}, though it is resumed from {place}, of "
            f"step {saved}: its state was not found when it was loaded.",
            hint="Start the same command again.",
        )


def _served(mount: Mount, before: tuple[float, ...]) -> bool:
    """Whether it was there all the time: it answers, and was not lost since."""
    return mount.serving() and _losses(mount) == before


def _losses(mount: Mount) -> tuple[float, ...]:
    record = mount.record()
    return tuple(record.lost) if record is not None else ()


def _together(trainer: Any) -> bool:
    return bool(
        getattr(trainer, "is_fsdp_enabled", False)
        or getattr(trainer, "is_deepspeed_enabled", False)
    )
