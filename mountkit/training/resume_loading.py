"""What a training is resumed with is loaded whole, also where its mount is lost meanwhile.

Trainer asks whether the file of the optimizer, of the random numbers and so on is there, and goes
on with new ones where it is not, in silence. In a mount that is gone just then, nothing is there.
(transformers 5.24: ``_load_optimizer_and_scheduler``, ``_load_rng_state``, ``_load_best_model``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mountkit.config import settings, timeouts
from mountkit.errors import MountUnavailableError
from mountkit.mounts.mount import Mount
from mountkit.training.console import say
from mountkit.training.trainer_hooks import Call, hook

if TYPE_CHECKING:
    from collections.abc import Callable

LOADS = (
    "_load_from_checkpoint", "_load_optimizer_and_scheduler", "_load_scaler", "_load_rng_state",
    "_load_best_model",
)  # fmt: skip
#: So often a mount may be lost while one thing is loaded.
TRIES = 5


def watch(trainer: type[Any]) -> None:
    """Have every Trainer load what it is resumed with from a mount that serves all the while.

    A transformers that loads something in another way is left alone.
    """
    for name in LOADS:
        if hasattr(trainer, name):
            hook(trainer, name, load)


def load(trainer: Any, call: Call, find: Callable[[str], Mount | None] = Mount.containing) -> Any:
    """Load it; once more where the mount was lost meanwhile.

    Raises MountUnavailableError if the mount does not come back, is lost again and again, or if
    many ranks load together: one of them cannot do so once more.
    """
    place = call.argument(0, "resume_from_checkpoint") or call.argument(0, "checkpoint")
    if place is None:
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
