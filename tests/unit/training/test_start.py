"""What ``Trainer.train`` is called with, below ``mountkit run --resume``. Without a mount, too."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mountkit.config.trainer_terms import TrainerTerms
from mountkit.errors import ConfigurationError, MountUnavailableError, UsageError
from mountkit.training import start, start_weights

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


class Trainer:
    """One that notes how it was trained."""

    is_fsdp_enabled = False
    is_deepspeed_enabled = False
    model_init = None
    model = SimpleNamespace(state_dict=dict)

    def __init__(self, output_dir: Path, world_size: int = 1, said: str | None = None) -> None:
        self.args = SimpleNamespace(
            output_dir=str(output_dir),
            world_size=world_size,
            process_index=0,
            resume_from_checkpoint=said,
        )
        self.calls: list[tuple[Any, ...]] = []
        self.loaded: list[str] = []
        self.error: Exception | None = None

    def method(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None) -> str:
        self.calls.append((resume_from_checkpoint, trial, ignore_keys_for_eval))
        if self.error is not None:
            raise self.error
        return "trained"

    def _load_from_checkpoint(self, path: str, model: object) -> None:
        self.loaded.append(path)


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setenv("MOUNTKIT_STATE_DIR", str(tmp_path / "state"))
    for step in (2, 10):
        top = tmp_path / "out" / f"checkpoint-{step}"
        top.mkdir(parents=True)
        for name in FILES:
            (top / name).write_text("{}")
    return tmp_path / "out"


def train(trainer: Trainer, *arguments: Any, around: Any = None, **options: Any) -> tuple[Any, ...]:
    around = around or start.of(TrainerTerms("", resume=True), set())
    assert around(trainer, trainer.method, arguments, options) == "trained"
    return trainer.calls[-1]


class TestResume:
    def test_the_newest_whatever_the_call_looks_like(self, output, capsys):
        newest = str(output / "checkpoint-10")
        assert train(Trainer(output)) == (newest, None, None)
        assert train(Trainer(output), None, None, ["past"]) == (newest, None, ["past"])
        assert train(Trainer(output), resume_from_checkpoint=None) == (newest, None, None)
        assert train(Trainer(output), True) == (newest, None, None)
        assert train(Trainer(output), ignore_keys_for_eval=["a"]) == (newest, None, ["a"])
        said = capsys.readouterr().err.splitlines()
        assert said == [f"mountkit: the training goes on from {newest}"] * 5

    def test_what_the_script_says_itself_wins(self, output, capsys):
        assert train(Trainer(output), "/elsewhere") == ("/elsewhere", None, None)
        assert train(Trainer(output), False) == (False, None, None)
        assert train(Trainer(output, said="/settings")) == (None, None, None)
        assert "says itself what to begin with: /elsewhere" in capsys.readouterr().err

    @pytest.mark.fault(23)
    def test_a_first_run_begins_from_the_start(self, tmp_path, output, capsys):
        assert train(Trainer(tmp_path / "new"), True) == (None, None, None)
        assert "nothing to resume from" in capsys.readouterr().err

    def test_a_trial_of_a_search_begins_at_its_own_beginning(self, output, capsys):
        assert train(Trainer(output), trial={"lr": 1}) == (None, {"lr": 1}, None)
        assert train(Trainer(output), None, {"lr": 1}) == (None, {"lr": 1}, None)
        assert capsys.readouterr().err == ""

    def test_a_second_training_goes_by_the_script_unless_the_first_broke_off(self, output):
        around = start.of(TrainerTerms("", resume=True), set())
        trainer = Trainer(output)
        trainer.error = RuntimeError("out of memory")
        with pytest.raises(RuntimeError):
            train(trainer, around=around)
        trainer.error = None
        assert train(trainer, around=around) == (str(output / "checkpoint-10"), None, None)
        assert train(trainer, around=around) == (None, None, None)

    def test_outside_the_mount_of_the_run_it_is_left_alone(self, output, capsys):
        around = start.of(TrainerTerms("/mnt/run-1", resume=True), set())
        assert train(Trainer(output), around=around) == (None, None, None)
        assert "does not lie in the mount at /mnt/run-1" in capsys.readouterr().err

    def test_a_store_that_cannot_be_asked_is_no_reason_to_begin_anew(self, output, monkeypatch):
        def fail(*_, **__):
            raise MountUnavailableError("It is away.")

        monkeypatch.setattr(start, "newest_checkpoint", fail)
        trainer = Trainer(output)
        with pytest.raises(MountUnavailableError):
            train(trainer)
        assert trainer.calls == []


class TestWeights:
    def around(self, path: Path, resume: bool = True):
        return start.of(TrainerTerms("", resume=resume, load_path=str(path)), set())

    @pytest.fixture
    def model(self, tmp_path):
        top = tmp_path / "model"
        top.mkdir()
        (top / "pytorch_model.bin").write_text("weights")
        return top

    def test_they_come_after_a_checkpoint(self, output, model):
        trainer = Trainer(output)
        assert train(trainer, around=self.around(model))[0] == str(output / "checkpoint-10")
        assert trainer.loaded == []

    @pytest.mark.parametrize("arguments", [(), (None,), (True,)])
    def test_without_one_the_training_begins_with_them(self, output, model, arguments, tmp_path):
        trainer = Trainer(tmp_path / "new")
        assert train(trainer, *arguments, around=self.around(model)) == (None, None, None)
        assert trainer.loaded == [str(model)]

    @pytest.mark.fault(24)
    def test_of_a_run_the_newest_whether_its_state_is_whole_or_not(self, output, tmp_path):
        (output / "checkpoint-10" / "optimizer.pt").unlink()
        for name in ("model.safetensors", "adapter_model.safetensors"):
            (output / "checkpoint-10" / name).unlink(missing_ok=True)
        (output / "checkpoint-10" / "adapter_model.safetensors").write_text("weights")
        trainer = Trainer(tmp_path / "new")
        train(trainer, around=self.around(output))
        assert trainer.loaded == [str(output / "checkpoint-10")]

    def test_a_place_without_weights_is_named(self, output, tmp_path):
        (tmp_path / "empty").mkdir()
        trainer = Trainer(tmp_path / "new")
        with pytest.raises(UsageError, match=r"load_path .*/empty has no weights"):
            train(trainer, around=self.around(tmp_path / "empty"))
        assert trainer.calls == []

    def test_a_model_that_is_split_first_is_refused(self, model, tmp_path):
        trainer = Trainer(tmp_path / "new")
        trainer.is_fsdp_enabled = True
        with pytest.raises(ConfigurationError, match="FSDP"):
            train(trainer, around=self.around(model))

    def test_weights_of_another_model_are_refused(self, tmp_path):
        (tmp_path / "model").mkdir()
        index = tmp_path / "model" / "model.safetensors.index.json"
        index.write_text('{"weight_map": {"encoder.weight": "model-1.safetensors"}}')
        trainer = Trainer(tmp_path / "new")
        trainer.model = SimpleNamespace(state_dict=lambda: {"decoder.weight": 1})
        with pytest.raises(ConfigurationError, match="of another model"):
            train(trainer, around=self.around(index.parent))
        assert start_weights._names(index.parent) == {"encoder.weight"}
