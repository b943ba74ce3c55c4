"""Where Trainer saves: each save is begun, repeated and completed by the saves of a callback.

Facts about Trainer are from transformers 5.24, ``trainer.py`` and ``trainer_jit_checkpoint.py``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mountkit.training.trainer_hooks import Call, hook

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mountkit.training.saves import Saves


class SavingCallback(Protocol):
    """A callback that proves what a training saves."""

    saves: Saves | None


def watch(trainer: type[Any], callback: type[SavingCallback]) -> None:
    """Have every Trainer that has such a callback save by it. One without it saves as ever."""
    watch_save(trainer, callback)
    watch_end(trainer, callback)
    watch_signal(callback)


def watch_save(trainer: type[Any], callback: type[SavingCallback]) -> None:
    """Have every save go through what repeats it.

    ``_save_checkpoint`` writes all of a checkpoint and nothing else. That of a class of its own,
    which may write more, is repeated as a whole.
    """

    def save(it: Any, call: Call) -> Any:
        saves = next(iter(_saves(it, callback)), None)
        if saves is None or saves.ended:
            return call()
        step = it.state.global_step
        if not saves.begin(step):
            return None
        lockstep = _saves_in_lockstep(it)
        result = saves.retrier.save(
            f"checkpoint-{step}", call, hidden=lambda: call.hidden, lockstep=lockstep
        )
        if not saves.tells:
            # A script saves by itself: no other callback adds anything.
            saves.close()
        return result

    hook(trainer, "_save_checkpoint", save)


def watch_end(trainer: type[Any], callback: type[SavingCallback]) -> None:
    """Have a save completed after the last callback's ``on_save``, of which no event tells.

    A callback may add files to the checkpoint in its ``on_save``, and be called after ours.
    ``_maybe_log_save_evaluate`` calls ``on_save`` last. If it ends with an error, a callback may
    have been kept from adding its file, and nothing is told.
    """

    def log_save_evaluate(it: Any, call: Call) -> Any:
        found = _saves(it, callback)
        with _while_so(found, "tells"):
            result = call()
        for saves in found:
            saves.complete()
        return result

    hook(trainer, "_maybe_log_save_evaluate", log_save_evaluate)


def watch_signal(callback: type[SavingCallback]) -> None:
    """Have every save on SIGTERM (``enable_jit_checkpoint``) proven like others.

    It is saved outside of the training loop: no ``on_save`` tells of it. Until it is whole, a file
    in it says that it is not, also where the step had been saved, and proven, before: so it is left
    out where that very state is proven already.

    A transformers that knows no such saves needs nothing.
    """
    try:
        from transformers.trainer_jit_checkpoint import CheckpointManager
    except ImportError:
        return

    def execute(it: Any, call: Call) -> Any:
        found = _saves(it.trainer, callback)
        if any(saves.stays(it.trainer.state.global_step) for saves in found):
            it.is_checkpoint_requested = False
            return None
        with _while_so(found, "on_signal"):
            result = call()
        for saves in found:
            saves.saved_on_signal(it.trainer.state)
        return result

    hook(CheckpointManager, "execute_jit_checkpoint", execute)


@contextmanager
def _while_so(found: Sequence[Saves], what: Literal["tells", "on_signal"]) -> Iterator[None]:
    """Have them know of it."""
    for saves in found:
        setattr(saves, what, True)
    try:
        yield
    finally:
        for saves in found:
            setattr(saves, what, False)


def _saves(trainer: Any, callback: type[SavingCallback]) -> list[Saves]:
    """Those of its callbacks that have a mount."""
    callbacks = trainer.callback_handler.callbacks
    found = (one.saves for one in callbacks if isinstance(one, callback))
    return [saves for saves in found if saves is not None]


def _saves_in_lockstep(trainer: Any) -> bool:
    """Whether its ranks wait for each other in the midst of a save.

    FSDP and DeepSpeed gather what they save; with a best step Trainer has a barrier of its own in
    ``_save_checkpoint``.
    """
    named = ("is_fsdp_enabled", "is_deepspeed_enabled", "is_distributed_loading_by_transformers")
    return any(getattr(trainer, name, False) for name in named) or bool(
        getattr(trainer.state, "best_global_step", None)
    )
