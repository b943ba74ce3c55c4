"""The checkpoint that Trainer saves on SIGTERM (``enable_jit_checkpoint``) is proven like others.

It is saved outside of the training loop: no ``on_save`` tells of it. Until it is whole, a file in
it says that it is not, also where the step had been saved, and proven, before
(transformers 5.24, ``trainer_jit_checkpoint.py``).
"""

from __future__ import annotations

from typing import Any, Protocol

from mountkit.training.trainer_hooks import Call, hook


class SavesOnSignal(Protocol):
    """A callback of a training that proves its saves."""

    def stays(self, step: int) -> bool:
        """Whether the checkpoint of a step is proven, and is not to be touched."""

    def saved_on_signal(self, state: Any) -> None:
        """A checkpoint was saved, all of it, and no event told of that."""


def watch(callback: type[SavesOnSignal]) -> None:
    """Have every save on a signal proven, or left out where that very state is proven already.

    A transformers that knows no such saves needs nothing.
    """
    try:
        from transformers.trainer_jit_checkpoint import CheckpointManager
    except ImportError:
        return

    def execute(it: Any, call: Call) -> Any:
        callbacks = it.trainer.callback_handler.callbacks
        found = [one for one in callbacks if isinstance(one, callback)]
        if any(one.stays(it.trainer.state.global_step) for one in found):
            it.is_checkpoint_requested = False
            return None
        result = call()
        for one in found:
            one.saved_on_signal(it.trainer.state)
        return result

    hook(CheckpointManager, "execute_jit_checkpoint", execute)
