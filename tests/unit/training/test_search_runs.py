"""A callback is told where the training that begins will save."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mountkit.training.search_runs import watch


class Callback:
    def __init__(self) -> None:
        self.folders: list[str] = []

    def saves_below(self, folder: str) -> None:
        self.folders.append(folder)


@pytest.fixture
def callback() -> Callback:
    return Callback()


@pytest.fixture
def trainer(callback):
    class Trainer:
        _trial = None

        def __init__(self) -> None:
            self.callback_handler = SimpleNamespace(callbacks=[object(), callback])

        def _get_output_dir(self, trial):
            return "out" if trial is None else f"out/run-{trial}"

        def _hp_search_setup(self, trial):
            self._trial = trial

    class Own(Trainer):
        """Names the runs itself."""

        def _get_output_dir(self, trial):
            return f"{super()._get_output_dir(trial)}-own"

    watch(Trainer, Callback)
    watch(Trainer, Callback)
    return Trainer, Own


def test_each_run_and_the_training_after_it(trainer, callback):
    made = trainer[0]()
    for trial in (0, 1, None):
        made._hp_search_setup(trial)
    assert callback.folders == ["out/run-0", "out/run-1", "out"]


def test_a_trainer_of_somebodys_own_is_asked(trainer, callback):
    trainer[1]()._hp_search_setup(3)
    assert callback.folders == ["out/run-3-own"]
