"""When a save is over: after the last callback's ``on_save``, and no event of Trainer's says so.

A callback may add files to the checkpoint in its ``on_save``, and be called after ours.
"""

from __future__ import annotations

from typing import Any, Protocol

from mountkit.training.trainer_hooks import Call, hook


class CompletedSaves(Protocol):
    """A callback of a training that wants to know."""

    def on_save_complete(self) -> None:
        """No callback is in its ``on_save`` any more."""


def watch(trainer: type[Any], callback: type[CompletedSaves]) -> None:
    """Have every Trainer tell its callbacks of that class when a save is over.

    ``_maybe_log_save_evaluate`` (transformers 5.24, ``trainer.py``) calls ``on_save`` last. If it
    ends with an error, a callback may have been kept from adding its file, and nothing is told.
    """

    def log_save_evaluate(it: Any, call: Call) -> Any:
        result = call()
        for one in it.callback_handler.callbacks:
            if isinstance(one, callback):
                one.on_save_complete()
        return result

    hook(trainer, "_maybe_log_save_evaluate", log_save_evaluate)
