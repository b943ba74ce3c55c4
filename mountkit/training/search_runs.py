"""Where each run of a hyper-parameter search saves: below a folder of its own, such as ``run-3``.

Only Trainer knows its name, which the user may choose (``hp_name``).
"""

from __future__ import annotations

from typing import Any, Protocol

from mountkit.training.trainer_hooks import Call, hook


class SavesBelow(Protocol):
    """A callback that proves what a training saves."""

    def saves_below(self, folder: str) -> None:
        """The training that begins now saves its checkpoints in that directory."""


def watch(trainer: type[Any], callback: type[SavesBelow]) -> None:
    """Have every Trainer tell its callbacks of that class where its next training saves.

    ``_hp_search_setup`` (transformers 5.24, ``trainer.py``) is called by each ``train``, before
    ``on_train_begin``; only then is it known which run of a search it is.
    """

    def setup(it: Any, call: Call) -> Any:
        result = call()
        # None where no search is under way.
        folder = it._get_output_dir(it._trial)  # noqa: SLF001 - nobody else knows
        for one in it.callback_handler.callbacks:
            if isinstance(one, callback):
                one.saves_below(folder)
        return result

    hook(trainer, "_hp_search_setup", setup)
