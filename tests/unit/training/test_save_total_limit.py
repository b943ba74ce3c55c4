"""``save_total_limit`` is the caller's again, however a training ends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mountkit.training.save_total_limit import SaveTotalLimit, watch


class Callback:
    def __init__(self) -> None:
        self.limit = SaveTotalLimit()

    def enter(self, trainer, call) -> None:
        """Nobody trains with it."""

    def leave(self) -> None:
        self.limit.give_back()


class Trainer:
    """One that notes what its arguments say at each moment."""

    def __init__(self, arguments, *callbacks, error: Exception | None = None) -> None:
        self.args = arguments
        self.callback_handler = SimpleNamespace(callbacks=[object(), *callbacks])
        self.error = error
        self.seen: dict[str, int | None] = {}

    def train(self) -> None:
        for one in self.callback_handler.callbacks[1:]:
            one.limit.take(self.args)
        self._save("checkpoint-1")
        self.seen["rotation"] = self.args.save_total_limit
        if self.error is not None:
            raise self.error

    def _save(self, output_dir: str) -> None:
        self.seen["training_args.bin"] = self.args.save_total_limit


@pytest.fixture
def arguments():
    watch(Trainer, Callback)
    return SimpleNamespace(save_total_limit=2)


def test_trainer_has_none_to_rotate_by_and_its_file_says_what_the_caller_did(arguments):
    trainer = Trainer(arguments, Callback())
    trainer.train()
    assert trainer.seen == {"training_args.bin": 2, "rotation": None}
    assert arguments.save_total_limit == 2


def test_a_training_that_raises_gives_it_back_to_the_next(arguments):
    with pytest.raises(OSError, match="out of memory"):
        Trainer(arguments, Callback(), error=OSError("out of memory")).train()
    assert arguments.save_total_limit == 2
    second = Callback()
    Trainer(arguments, second).train()
    assert second.limit.value == 2


def test_one_that_begins_again_without_an_end_still_has_it(arguments):
    # As with ``auto_find_batch_size``, in the middle of ``train``.
    limit = SaveTotalLimit()
    limit.take(arguments)
    limit.take(arguments)
    assert limit.value == 2
    limit.give_back()
    limit.give_back()
    assert arguments.save_total_limit == 2


def test_a_trainer_without_the_callback_rotates_as_ever(arguments):
    trainer = Trainer(arguments)
    trainer.train()
    assert trainer.seen == {"training_args.bin": 2, "rotation": 2}
