"""What was saved at a step by somebody else, when a training is about to save there."""

from __future__ import annotations

import threading
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from mountkit.checkpoints import catalog, lineage
from mountkit.config.timeouts import Limits
from mountkit.errors import NotDurableError, PermissionDeniedError
from mountkit.events import Problem, SaveBlocked
from mountkit.proof.committer import Prover
from support.fakes import FakeMount

if TYPE_CHECKING:
    from mountkit.training.callback import CheckpointCallback

if find_spec("transformers") is None:
    # Not importorskip: each worker that only collects these would load it.
    pytest.skip("transformers is not installed", allow_module_level=True)

LIMITS = Limits(stall=0.05, drain=60.0, repair=0.05)


class Place:
    """A mount in which others saved before, and the training that begins in it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from mountkit.training import callback as trainer

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
            (trainer.save_hooks, "watch"),
            (trainer.save_total_limit, "watch"),
            (trainer.search_runs, "watch"),
        ):
            monkeypatch.setattr(module, name, lambda *_: None)
        self.folder = ""
        self._callback = trainer.CheckpointCallback

    def earlier(self, *steps: int) -> None:
        """Another training saved at these steps, and is over."""
        callback = self.train()
        for step in steps:
            self.save(callback, step)
        self.age()
        self.events.clear()

    def save(self, callback: CheckpointCallback, step: int, best: int | None = None) -> None:
        """A training saves, and the checkpoint is proven."""
        callback.saves.begin(step)
        self.mount.save(f"out/checkpoint-{step}/model")
        top = Path(self.mount.path) / f"out/checkpoint-{step}"
        top.mkdir(parents=True, exist_ok=True)
        (top / "model").touch()
        path = None if best is None else f"{self.mount.path}/out/checkpoint-{best}"
        callback.on_save(None, SimpleNamespace(global_step=step, best_model_checkpoint=path), None)
        callback.saves.finish(None)

    @property
    def latest(self) -> int | None:
        found = catalog.latest(self.prover.store)
        return found.step if found else None

    @property
    def steps(self) -> list[int]:
        return [each.step for each in catalog.scan(self.prover.store)]

    @property
    def words(self) -> str:
        return "\n".join(each.reason for each in self.events if isinstance(each, Problem))

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

    def train(
        self, step: int = 0, limit: int | None = None, on_failure: str = "raise"
    ) -> CheckpointCallback:
        """A training begins; at a later step, it was resumed."""
        callback = self._callback(self.mount, on_event=self.events.append, on_failure=on_failure)
        arguments = SimpleNamespace(
            output_dir=f"{self.mount.path}/out",
            world_size=1,
            fsdp="",
            fsdp_config=None,
            report_to=[],
            deepspeed=None,
            save_total_limit=limit,
        )
        callback.saves_below(self.folder)
        state = SimpleNamespace(global_step=step)
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
        assert place.train().saves.begin(3)
        assert place.left() == ["checkpoint-30/model", "checkpoint-30/mountkit-manifest.json"]
        first, *_ = place.mount.bucket.asked("delete")
        assert first == "run/out/checkpoint-3/mountkit-manifest.json"
        assert any("saved anew" in e.reason for e in place.events if isinstance(e, Problem))

    def test_so_does_one_that_is_torn(self, place):
        place.mount.bucket.objects["run/out/checkpoint-3/scaler.pt"] = b"torn"
        assert place.train().saves.begin(3)
        assert place.left() == []

    def test_and_what_waits_for_its_upload(self, place):
        place.mount.write("out/checkpoint-3/scaler.pt", dirty=True)
        place.age()
        top = Path(place.mount.path) / "out/checkpoint-3"
        top.mkdir(parents=True)
        assert place.train().saves.begin(3)
        assert not top.exists()

    def test_but_for_what_was_written_there_since(self, place):
        place.prove(3, "model")
        callback = place.train()
        place.mount.save("out/checkpoint-3/adapter")
        assert callback.saves.begin(3)
        assert place.left() == ["checkpoint-3/adapter", "checkpoint-3/model"]
        assert any("before the save" in e.reason for e in place.events if isinstance(e, Problem))

    @pytest.mark.parametrize("proven", [True, False])
    def test_the_one_it_was_resumed_from_stays(self, place, proven):
        if proven:
            place.prove(3, "model")
        else:
            place.mount.bucket.objects["run/out/checkpoint-3/model"] = b"1"
        before = place.left()
        saves = place.train(3).saves
        saves.on_signal = True
        assert saves.begin(3) is not proven
        assert place.left() == before

    def test_whoever_saves_it_once_more_without_a_signal_has_something_new(self, place):
        place.prove(3, "model")
        assert place.train(3).saves.begin(3)
        assert place.left() == ["checkpoint-3/model"]

    def test_what_this_training_saved_stays_when_it_is_saved_once_more(self, place):
        callback = place.train()
        assert callback.saves.begin(3)
        place.mount.save("out/checkpoint-3/model")
        assert callback.saves.begin(3)
        assert place.left() == ["checkpoint-3/model"]

    def test_where_nobody_saved_it_costs_no_request(self, place):
        place.prove(3, "model")
        assert place.train().saves.begin(6)
        assert place.mount.bucket.requests == []

    def test_once_is_enough(self, place):
        place.prove(3, "model")
        callback = place.train()
        callback.saves.begin(3)
        place.mount.bucket.requests.clear()
        callback.saves.begin(3)
        assert place.mount.bucket.requests == []

    def test_a_store_that_refuses_ends_it(self, place):
        place.mount.bucket.objects["run/out/checkpoint-3/scaler.pt"] = b"torn"
        callback = place.train()

        def refuse(key: str) -> None:
            raise PermissionDeniedError(f"{key} may not be deleted.")

        place.mount.bucket.before_delete = refuse
        with pytest.raises(PermissionDeniedError):
            callback.saves.begin(3)

    def test_a_mount_that_is_lost_each_time_ends_it_with_the_name(self, place):
        place.prove(3, "model")
        callback = place.train()
        place.mount.alive = False
        with pytest.raises(NotDurableError, match="checkpoint-3 holds files of an earlier"):
            callback.saves.begin(3)
        assert "checkpoint-3/model" in place.left()


@pytest.mark.fault(48)
class TestAnotherTraining:
    """Checkpoints of a training from which this one does not descend."""

    def test_from_the_start_its_own_come_first(self, place):
        place.earlier(8, 10)
        callback = place.train(limit=2)
        assert "checkpoint-8, checkpoint-10" in place.words
        assert "begun from the start, does not descend" in place.words
        assert "save_total_limit=2" in place.words
        # Until it has proven one, the other's is what there is.
        assert (place.latest, place.steps) == (10, [8, 10])
        place.save(callback, 2)
        assert (place.latest, place.steps) == (2, [2, 10])
        assert "checkpoint-8 of another training is removed" in place.words
        place.save(callback, 4)
        assert (place.latest, place.steps) == (4, [2, 4])
        place.save(callback, 6)
        assert (place.latest, place.steps) == (6, [4, 6])

    def test_without_a_limit_nothing_goes_and_its_own_are_the_latest(self, place):
        place.earlier(2, 8, 10)
        callback = place.train()
        assert "None of them is removed" in place.words
        place.save(callback, 2)
        assert (place.latest, place.steps) == (2, [2, 8, 10])

    def test_from_the_middle_the_branch_that_was_left_goes_first(self, place):
        place.earlier(2, 4, 8, 10)
        callback = place.train(4, limit=3)
        assert "resumed at step 4, does not descend: checkpoint-8, checkpoint-10." in place.words
        place.save(callback, 6)
        assert (place.latest, place.steps) == (6, [2, 4, 6])
        place.save(callback, 8)
        assert (place.latest, place.steps) == (8, [4, 6, 8])

    def test_from_the_newest_nothing_is_said(self, place):
        place.earlier(2, 4)
        callback = place.train(4, limit=2)
        place.save(callback, 6)
        assert place.words == ""
        assert (place.latest, place.steps) == (6, [4, 6])

    def test_the_best_stays_and_so_does_the_one_resumed_from(self, place):
        place.earlier(2, 4, 8, 10)
        callback = place.train(4, limit=1)
        place.save(callback, 5, best=2)
        assert (place.latest, place.steps) == (5, [2, 4, 5])

    def test_a_third_one_goes_on_from_the_second(self, place):
        place.earlier(8, 10)
        place.earlier(2, 4)
        callback = place.train(4, limit=2)
        assert "checkpoint-8, checkpoint-10" in place.words
        place.save(callback, 6)
        assert (place.latest, place.steps) == (6, [4, 6])

    @pytest.mark.fault(35)
    def test_a_clock_that_is_behind_changes_nothing(self, place, monkeypatch):
        place.earlier(4)
        monkeypatch.setattr(lineage.time, "time", lambda: 1000.0)
        place.save(place.train(4), 6)
        assert place.latest == 6

    def test_what_is_proven_once_more_keeps_its_place(self, place):
        place.mount.spec = replace(place.mount.spec, keep_local="all")
        place.earlier(2, 4)
        place.train(4)
        store = place.prover.store
        again = catalog.scan(store)[0]
        place.prover.prove("checkpoint-2", 2, ["model"], saved=again.saved)
        assert place.latest == 4


@pytest.mark.fault(25)
class TestOnASignal:
    """A save of which no event tells."""

    def save(self, place, callback, step: int) -> bool:
        """As transformers does; whether it came to that."""
        state = SimpleNamespace(global_step=step, best_model_checkpoint=None)
        if callback.saves.stays(step):
            return False
        assert callback.saves.begin(step)
        place.mount.save(f"out/checkpoint-{step}/model")
        top = Path(place.mount.path) / f"out/checkpoint-{step}"
        top.mkdir(parents=True, exist_ok=True)
        (top / "model").touch()
        callback.saves.saved_on_signal(state)
        return True

    def test_it_is_proven_by_the_end_of_the_training(self, place):
        callback = place.train()
        place.save(callback, 2)
        assert self.save(place, callback, 3)
        callback.on_train_end(None, None, None)
        assert (place.latest, place.steps) == (3, [2, 3])

    def test_what_is_proven_is_not_touched(self, place):
        callback = place.train()
        place.save(callback, 2)
        before = place.mount.bucket.objects.copy()
        assert not self.save(place, callback, 2)
        assert place.mount.bucket.objects == before
        assert not self.save(place, place.train(2), 2)

    def test_nor_is_it_saved_once_more_by_whoever_comes_after_the_signal(self, place):
        callback = place.train()
        assert self.save(place, callback, 3)
        callback.saves.finish(None)
        assert not callback.saves.begin(3)

    def test_a_step_that_was_announced_is_saved(self, place):
        callback = place.train()
        place.save(callback, 2)
        callback.on_step_end(
            SimpleNamespace(save_strategy="steps"),
            SimpleNamespace(global_step=2),
            SimpleNamespace(should_save=True, should_evaluate=False),
        )
        assert not callback.saves.stays(2)

    def test_so_is_one_that_another_training_has_left(self, place):
        place.earlier(3)
        callback = place.train()
        assert self.save(place, callback, 3)
        callback.on_train_end(None, None, None)
        assert place.latest == 3

    def test_one_that_cannot_be_proven_ends_it(self, place):
        callback = place.train()
        place.mount.bucket.before_attest = lambda key: place.mount.bucket.objects.pop(key, None)
        self.save(place, callback, 3)
        with pytest.raises(NotDurableError):
            callback.on_train_end(None, None, None)


class TestTheNextTraining:
    """One that begins in the same process while a checkpoint of the one before is being proven."""

    def test_it_waits_for_that_and_what_it_goes_on_from_stays(self, place):
        place.prove(2, "model")
        held = threading.Event()
        first = place.train(2, limit=1)
        place.mount.bucket.before_attest = lambda _: held.wait(10)
        first.saves.begin(4)
        place.mount.save("out/checkpoint-4/model")
        top = Path(place.mount.path) / "out/checkpoint-4"
        top.mkdir(parents=True)
        (top / "model").touch()
        first.on_save(None, SimpleNamespace(global_step=4, best_model_checkpoint=None), None)
        first.saves.complete()
        # It ended with an error. What it was resumed from, another one might be, too.
        first.leave()
        heard = []

        def hear(event) -> None:
            heard.append(event)
            held.set()

        place.events = SimpleNamespace(append=hear)
        place.train(2, limit=1)
        assert any(isinstance(event, SaveBlocked) for event in heard)
        assert place.steps == [2, 4]


class TestSearch:
    """Each run of a search is a training of its own."""

    def test_its_checkpoints_lie_in_its_folder(self, place):
        for run in ("run-0", "mine/5"):
            place.folder = f"{place.mount.path}/out/{run}"
            callback = place.train(limit=1)
            for step in (2, 4):
                callback.saves.begin(step)
                place.mount.save(f"out/{run}/checkpoint-{step}/model")
                top = Path(place.folder) / f"checkpoint-{step}"
                top.mkdir(parents=True)
                (top / "model").touch()
                state = SimpleNamespace(global_step=step, best_model_checkpoint=None)
                callback.on_save(None, state, None)
                callback.saves.finish(None)
            store = place.mount.store(f"out/{run}")
            assert [(each.step, each.proven) for each in catalog.scan(store)] == [(4, True)]
        assert place.words == ""


def take_away(mount: FakeMount, name: str) -> None:
    """Nothing can be read of that, nor be written there."""
    path = mount.directory.path / name
    path.unlink(missing_ok=True)
    path.mkdir()


@pytest.mark.parametrize("name", ["strays.json", "record.json"])
class TestStateThatCannotBeUsed:
    """A full disk, or a home directory that is away: nothing of it reaches the training raw."""

    def save(self, place, callback, step: int) -> None:
        """As Trainer does: through what repeats a save."""
        assert callback.saves.begin(step)
        saved = callback.saves.retrier.save(
            f"checkpoint-{step}", lambda: place.save(callback, step) or "saved"
        )
        assert saved == "saved"

    def test_with_warn_the_training_goes_on(self, place, caplog, name):
        callback = place.train(on_failure="warn")
        take_away(place.mount, name)
        self.save(place, callback, 3)
        control = SimpleNamespace(should_save=True, should_evaluate=False)
        state = SimpleNamespace(global_step=6)
        callback.on_step_end(SimpleNamespace(save_strategy="steps"), state, control)
        assert f"{name}" in caplog.text
        assert place.latest is None

    def test_otherwise_it_ends_with_the_mount_by_name(self, place, name):
        callback = place.train()
        take_away(place.mount, name)
        with pytest.raises(NotDurableError) as caught:
            self.save(place, callback, 3)
        assert name in caught.value.message
        assert place.mount.path in caught.value.message
        assert caught.value.hint

    def test_nor_do_the_files_of_an_earlier_training(self, place, monkeypatch, caplog, name):
        place.prove(3, "model", "scaler.pt")
        callback = place.train(on_failure="warn")

        def fail(_=""):
            raise OSError(5, "Input/output error", name)

        monkeypatch.setattr(place.mount.daemon, "files", fail)
        assert callback.saves.begin(3)
        assert "is saved, and not proven" in caplog.text
        # Among them stale ones may be left: what is saved there is no proven checkpoint.
        callback.on_save(None, SimpleNamespace(global_step=3, best_model_checkpoint=None), None)
        callback.on_train_end(None, None, None)
        assert place.latest is None
