"""When a save is over: after the last callback's ``on_save``, and no event of Trainer's says so.

A callback may add files to the checkpoint in its ``on_save``, and be called after ours.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, Protocol


class Settling(Protocol):
    """A callback of a training that wants to know."""

    def settle(self) -> None:
        """No callback is in its ``on_save`` any more."""


_lock = threading.Lock()


def watch(trainer: type[Any], callback: type[Settling]) -> None:
    """Have every Trainer tell its callbacks of that class when a save is over.

    ``Trainer._maybe_log_save_evaluate`` (transformers 5.23, ``trainer.py``) calls ``on_save`` last.
    Done once. If it ends with an error, a callback may have been kept from adding its file, and
    nothing is told.
    """
    with _lock:
        original = trainer._maybe_log_save_evaluate  # noqa: SLF001 - there is no event
        if getattr(original, "mountkit", False):
            return

        @functools.wraps(original)
        def log_save_evaluate(self: Any, *arguments: Any, **options: Any) -> Any:
            result = original(self, *arguments, **options)
            for one in self.callback_handler.callbacks:
                if isinstance(one, callback):
                    one.settle()
            return result

        log_save_evaluate.mountkit = True  # type: ignore[attr-defined]
        trainer._maybe_log_save_evaluate = log_save_evaluate  # noqa: SLF001
