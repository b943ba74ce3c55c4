"""What was saved at a step by somebody else, when a training is about to save there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from fakes import FakeMount

from mountkit.config import Limits
from mountkit.errors import NotDurableError, PermissionDeniedError
from mountkit.events import Trouble
from mountkit.prover import Prover

if TYPE_CHECKING:
    from mountkit.trainer import CheckpointCallback

pytest.importorskip("transformers", reason="transformers is not installed")

LIMITS = Limits(stall=0.05, drain=60.0, repair=0.05)


class Place:
    """A mount in which others saved before, and the training that begins in it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from mountkit import trainer

        self.mount = FakeMount(folder)
        self.mount.begin()
        self.mount.source = "s3://bucket/run"
        self.mount.wait_until_serving = lambda _: None
        self.mount.relative = lambda path: Path(path).relative_to(self.mount.path).as_posix()
        self.events: list = []
        self.prover = Prover(self.mount, "out", LIMITS, self.events.append)
        for module, name in (
            (trainer.writers, "install"),
            (trainer.doctor, "essential"),
            (trainer.resaving, "watch"),
            (trainer.settling, "watch"),
        ):
            monkeypatch.setattr(module, name, lambda *_: None)
        self._callback = trainer.CheckpointCallback

    def prove(self, step: int, *names: str) -> None:
        """Have a checkpoint in the store and in its cache, a while ago."""
        top = f"out/checkpoint-{step}"
        for name in names:
            self.mount.save(f"{top}/{name}")
        self.prover.prove(f"checkpoint-{step}", step, names)
        self.age()

    def age(self) -> None:
        listed = self.mount.daemon.listed
        listed.update({path: replace(file, modified=1.0) for path, file in listed.items()})

    def train(self, step: int = 0) -> CheckpointCallback:
        """A training begins; at a later step, it was resumed."""
        callback = self._callback(self.mount, on_event=self.events.append)
        arguments = SimpleNamespace(
            output_dir=f"{self.mount.path}/out",
            world_size=1,
            fsdp="",
            fsdp_config=None,
            report_to=[],
            deepspeed=None,
            save_total_limit=None,
        )
        state = SimpleNamespace(is_hyper_param_search=False, global_step=step)
        callback.on_train_begin(arguments, state, None)
        self.mount.bucket.requests.clear()
        return callback

    def left(self) -> list[str]:
        return sorted(key.removeprefix("run/out/") for key in self.mount.bucket.objects)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    return Place(tmp_path, monkeypatch)


@pytest.mark.fault(7, 20)
class TestForeign:
    def test_a_proven_one_goes_as_a_whole_its_manifest_first(self, place):
        place.prove(3, "model", "scaler.pt")
        place.prove(30, "model")
        assert place.train().begin_save(3)
        assert place.left() == ["checkpoint-30/model", "checkpoint-30/mountkit-manifest.json"]
        first, *_ = place.mount.bucket.asked("delete")
        assert first == "run/out/checkpoint-3/mountkit-manifest.json"
        assert any("saved anew" in e.reason for e in place.events if isinstance(e, Trouble))

    def test_so_does_one_that_is_torn(self, place):
        place.mount.bucket.objects["run/out/checkpoint-3/scaler.pt"] = b"torn"
        assert place.train().begin_save(3)
        assert place.left() == []

    def test_and_what_waits_for_its_upload(self, place):
        place.mount.write("out/checkpoint-3/scaler.pt", dirty=True)
        place.age()
        top = Path(place.mount.path) / "out/checkpoint-3"
        top.mkdir(parents=True)
        assert place.train().begin_save(3)
        assert not top.exists()

    def test_but_for_what_was_written_there_since(self, place):
        place.prove(3, "model")
        callback = place.train()
        place.mount.save("out/checkpoint-3/adapter")
        assert callback.begin_save(3)
        assert place.left() == ["checkpoint-3/adapter", "checkpoint-3/model"]
        assert any("before the save" in e.reason for e in place.events if isinstance(e, Trouble))

    @pytest.mark.parametrize("proven", [True, False])
    def test_the_one_it_was_resumed_from_stays(self, place, proven):
        if proven:
            place.prove(3, "model")
        else:
            place.mount.bucket.objects["run/out/checkpoint-3/model"] = b"1"
        before = place.left()
        assert place.train(3).begin_save(3) is not proven
        assert place.left() == before

    def test_what_this_training_saved_stays_when_it_is_saved_once_more(self, place):
        callback = place.train()
        assert callback.begin_save(3)
        place.mount.save("out/checkpoint-3/model")
        assert callback.begin_save(3)
        assert place.left() == ["checkpoint-3/model"]

    def test_where_nobody_saved_it_costs_no_request(self, place):
        place.prove(3, "model")
        assert place.train().begin_save(6)
        assert place.mount.bucket.requests == []

    def test_once_is_enough(self, place):
        place.prove(3, "model")
        callback = place.train()
        callback.begin_save(3)
        place.mount.bucket.requests.clear()
        callback.begin_save(3)
        assert place.mount.bucket.requests == []

    def test_a_store_that_refuses_ends_it(self, place):
        place.mount.bucket.objects["run/out/checkpoint-3/scaler.pt"] = b"torn"
        callback = place.train()

        def refuse(key: str) -> None:
            raise PermissionDeniedError(f"{key} may not be deleted.")

        place.mount.bucket.before_delete = refuse
        with pytest.raises(PermissionDeniedError):
            callback.begin_save(3)

    def test_a_mount_that_is_lost_each_time_ends_it_with_the_name(self, place):
        place.prove(3, "model")
        callback = place.train()
        place.mount.alive = False
        with pytest.raises(NotDurableError, match="checkpoint-3 holds files of an earlier"):
            callback.begin_save(3)
        assert "checkpoint-3/model" in place.left()
