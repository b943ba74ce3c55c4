"""A signal that one rank was sent becomes all ranks' own.

``enable_jit_checkpoint`` saves on SIGTERM, on the rank that was sent it, and agrees with no other:
its save waits for ranks that never come (transformers 5.24, ``trainer_jit_checkpoint.py``). Here
the request is held back until all ranks have heard of it, and then each of them has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class SharedSignal:
    """The requests of a Trainer's own managers. ``first``: Whether this rank's node's first."""

    def __init__(self, managers: Sequence[Any], *, first: bool) -> None:
        self._managers = managers
        self._over = False
        self.pending = False
        for manager in managers:
            # What its timer calls, some seconds after the signal.
            manager._enable_checkpoint = self._request  # noqa: SLF001
            if not first:
                # One alone writes the mark of a save that is not whole, and removes it.
                manager.execute_jit_checkpoint = _without_mark(manager)

    def agreed(self) -> None:
        """All ranks know of it: each of them saves, at one step."""
        self.pending, self._over = False, True
        for manager in self._managers:
            manager.is_checkpoint_requested = True

    def give_back(self) -> None:
        """The training is over."""
        for manager in self._managers:
            for name in ("_enable_checkpoint", "execute_jit_checkpoint"):
                manager.__dict__.pop(name, None)

    def _request(self) -> None:
        # Whoever starts the ranks sends the signal to all of them; one save is enough.
        self.pending = not self._over


def _without_mark(manager: Any) -> Any:
    def save() -> None:
        manager.is_checkpoint_requested = False
        trainer = manager.trainer
        trainer._save_checkpoint(trainer.model, trial=None)  # noqa: SLF001 - as it does itself

    return save
