"""``save_total_limit``, taken from Trainer for as long as it trains, and given back.

Trainer deletes by it before a newer checkpoint could be proven, after each save and once more at
the end of a training. Without it, it deletes nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from mountkit.training.trainer_hooks import Call, hook

if TYPE_CHECKING:
    from collections.abc import Iterator


class SaveTotalLimit:
    """The limit of one training's arguments, which are the caller's."""

    def __init__(self) -> None:
        self._arguments: Any = None
        self.value: int | None = None

    def take(self, arguments: Any) -> None:
        """Take it from the arguments."""
        self.give_back()
        self._arguments, self.value = arguments, arguments.save_total_limit
        arguments.save_total_limit = None

    def give_back(self) -> None:
        """Give it back, however the training ended; again does nothing."""
        arguments, self._arguments = self._arguments, None
        if arguments is not None:
            arguments.save_total_limit = self.value

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Have the arguments as the caller gave them, while they are written to a file."""
        arguments = self._arguments
        if arguments is None:
            yield
            return
        self.give_back()
        try:
            yield
        finally:
            self.take(arguments)


class Limited(Protocol):
    """A callback that takes the limit."""

    limit: SaveTotalLimit

    def enter(self, trainer: Any, call: Call) -> None:
        """A training begins."""

    def leave(self) -> None:
        """The training has ended, well or with an error."""


def watch(trainer: type[Any], callback: type[Limited]) -> None:
    """Have the limit given back at every end of ``train``, and shown to ``training_args.bin``.

    ``Trainer._save`` (transformers 5.24, ``trainer.py``) writes that file beside the weights.
    """

    def of(it: Any) -> list[Limited]:
        return [one for one in it.callback_handler.callbacks if isinstance(one, callback)]

    def train(it: Any, call: Call) -> Any:
        try:
            for one in of(it):
                one.enter(it, call)
            return call()
        finally:
            for one in of(it):
                one.leave()

    def save(it: Any, call: Call) -> Any:
        for one in of(it)[:1]:
            with one.limit.shown():
                return call()
        return call()

    hook(trainer, "train", train)
    hook(trainer, "_save", save)
