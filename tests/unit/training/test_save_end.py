"""A callback is told when a save is over."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mountkit.training.save_hooks import watch_end


class Callback:
    def __init__(self, asked: list[str]) -> None:
        self.saves = SimpleNamespace(complete=lambda: asked.append("settle"))


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def trainer(asked):
    class Trainer:
        error: Exception | None = None

        def __init__(self) -> None:
            self.callback_handler = SimpleNamespace(callbacks=[object(), Callback(asked)])

        def _maybe_log_save_evaluate(self, loss, *, learning_rate=None):
            asked.append("on_save")
            if self.error is not None:
                raise self.error
            return loss, learning_rate

    watch_end(Trainer, Callback)
    watch_end(Trainer, Callback)
    return Trainer()


def test_after_the_last_on_save_and_once(trainer, asked):
    assert trainer._maybe_log_save_evaluate(1.0, learning_rate=0.1) == (1.0, 0.1)
    assert asked == ["on_save", "settle"]


def test_not_where_a_callback_failed_for_its_file_may_be_missing(trainer, asked):
    trainer.error = OSError("no room for the adapter")
    with pytest.raises(OSError, match="no room"):
        trainer._maybe_log_save_evaluate(1.0)
    assert asked == ["on_save"]


def test_a_trainer_without_the_callback_goes_on_as_ever(trainer, asked):
    trainer.callback_handler.callbacks = []
    trainer._maybe_log_save_evaluate(1.0)
    assert asked == ["on_save"]
