"""The local files of a run's logs, and their copies; the mount is a folder, the copying a fake."""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import shutil
import stat
import tempfile
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from mountkit.linux.process import ProcessIdentity
from mountkit.mounts.mount import Mount
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state.record import SERVING, MountRecord, now
from mountkit.state.registry import State
from mountkit.training import log_copies
from mountkit.training.log_files import LogFiles
from mountkit.writers import whole_file

if TYPE_CHECKING:
    from pathlib import Path


class Copies:
    """Copies as they are made, and errors for those that are not to succeed."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.errors: dict[str, int] = {}

    def __call__(self, mount: object, source: Path, path: Path) -> None:
        if path.name in self.errors:
            raise OSError(self.errors[path.name], os.strerror(self.errors[path.name]), str(path))
        self.made.append(path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, path)


class Place:
    def __init__(self, folder: Path) -> None:
        self.mount = SimpleNamespace(path=str(folder))
        self.top = folder / "out" / "logs"
        self.copies = Copies()
        self.mounted = True

    def files(self, **more: int) -> LogFiles:
        def mounted(_: str) -> bool:
            return self.mounted

        copy = functools.partial(whole_file.copy_all, copy=self.copies)
        return LogFiles(self.top, self.mount, copy=copy, mounted=mounted, **more)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mounted = tmp_path / "mnt"
    mounted.mkdir()
    return Place(mounted)


def write(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


@pytest.mark.fault(30)
class TestCopy:
    def test_only_what_has_changed_is_copied(self, place):
        files = place.files()
        for name in ("one", "two"):
            write(files.local / name, "a line\n")
        assert files.copy() == []
        write(files.local / "two", "and another\n")
        assert files.copy() == []
        assert files.copy() == []
        assert place.copies.made == ["one", "two", "two"]
        assert (place.top / "two").read_text() == "a line\nand another\n"

    def test_a_file_that_is_being_read_keeps_no_other_from_being_copied(self, place):
        files = place.files()
        for name in ("one", "two"):
            write(files.local / name, "a line\n")
        place.copies.errors["one"] = errno.EPERM
        (said,) = files.copy()
        assert str(place.top / "one") in said
        assert place.copies.made == ["two"]
        place.copies.errors.clear()
        assert files.copy() == []
        assert place.copies.made == ["two", "one"]

    @pytest.mark.parametrize("code", [errno.ENOTCONN, errno.EIO, errno.ENOSPC])
    def test_a_mount_that_takes_nothing_is_not_asked_for_each_file(self, place, code):
        files = place.files()
        for name in ("one", "two"):
            write(files.local / name, "a line\n")
        place.copies.errors["one"] = code
        assert len(files.copy()) == 1
        assert place.copies.made == []
        assert not files.settled

    def test_what_is_not_copied_stays_here_at_the_end(self, place):
        files = place.files()
        write(files.local / "one", "a line\n")
        assert not files.settled
        assert files.copy() == []
        assert files.settled
        write(files.local / "one", "and another\n")
        assert not files.settled, "nobody has copied it"

        def under_way(*_):
            assert not files.settled
            raise RuntimeError

        files._copy = under_way
        with pytest.raises(RuntimeError):
            files.copy()
        assert not files.settled

    def test_only_the_owner_can_read_what_waits_here_and_it_goes_in_the_end(self, place):
        files = place.files()
        private = files.local.parent
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        files.remove()
        assert not private.exists()

    def test_a_folder_of_somebody_else_has_only_what_is_new_in_it_copied(self, place, tmp_path):
        own = tmp_path / "boards"
        own.mkdir()
        write(own / "old", "of another run")
        files = place.files()
        files.adopt(own, place.top / "tensorboard")
        write(own / "new", "of this one")
        assert files.copy() == []
        assert place.copies.made == ["new"]
        assert (place.top / "tensorboard/new").exists()


@pytest.mark.fault(30)
def test_a_process_of_its_own_says_why_it_copied_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("MOUNTKIT_STATE_DIR", str(tmp_path / "state"))
    target = tmp_path / "mnt"
    spec = MountSpec(Source("s3", "b", "p"), str(target), "rclone", StoreOptions(), "/cache")
    directory = State(tmp_path / "state").directory(spec.id)
    directory.write(MountRecord(spec, SERVING, now(), ProcessIdentity.mine(), None))
    log = tmp_path / "training.log"
    log.write_text("a line\n")
    # Where it is noted is not what the settings of that process would say.
    monkeypatch.delenv("MOUNTKIT_STATE_DIR")
    copied = log_copies.apart(Mount(spec, directory), [(log, target / "logs/training.log")])
    assert copied.done == ()
    (said,) = copied.problems
    assert said == f"{target}/logs/training.log: Nothing is mounted right now"


@pytest.mark.fault(30)
class TestContinued:
    def test_it_goes_on_where_an_earlier_run_left_it(self, place):
        place.top.mkdir(parents=True)
        (place.top / "training.log").write_text("earlier\ntorn of")
        files = place.files()
        local, said = files.continued("training.log")
        assert said == ""
        assert files.copy() == []
        # Nothing was written yet: it is not copied back.
        assert place.copies.made == []
        write(local, "new\n")
        assert files.copy() == []
        assert (place.top / "training.log").read_text() == "earlier\ntorn of\nnew\n"

    def test_in_no_mount_it_is_the_file_itself(self, place):
        place.top.mkdir(parents=True)
        (place.top / "training.log").write_text("earlier\ntorn of")
        local, _ = LogFiles(place.top, None).continued("training.log")
        write(local, "new\n")
        assert (place.top / "training.log").read_text() == "earlier\ntorn of\nnew\n"

    def test_what_cannot_be_read_is_not_written_over(self, place):
        (place.top / "training.log").mkdir(parents=True)
        local, said = place.files().continued("training.log")
        assert local.name.startswith("training-")
        assert local.name in said

    def test_nor_is_what_is_gigantic(self, place):
        place.top.mkdir(parents=True)
        (place.top / "metrics.jsonl").write_bytes(b"x" * 101)
        local, said = place.files(largest=100).continued("metrics.jsonl")
        assert local.name.startswith("metrics-")
        assert local.suffix == ".jsonl"
        assert "more than 100 bytes" in said

    def test_nor_is_what_lies_behind_a_mount_that_is_away(self, place):
        place.mounted = False
        local, said = place.files().continued("training.log")
        assert local.name != "training.log"
        assert "nothing is mounted" in said


class Job:
    """A training as its callbacks are told of it, below a local folder."""

    def __init__(self, output_dir: Path, *callbacks: object, rank: int = 0) -> None:
        import torch
        from transformers import TrainingArguments
        from transformers.trainer_callback import CallbackHandler, TrainerControl, TrainerState

        self.args = TrainingArguments(output_dir=str(output_dir), report_to="none", use_cpu=True)
        self.state = TrainerState(
            max_steps=4, is_world_process_zero=rank == 0, is_local_process_zero=rank == 0
        )
        self.control = TrainerControl()
        self.handler = CallbackHandler([*callbacks], torch.nn.Linear(2, 2), None, None, None)

    def tell(self, event: str, *more: object) -> None:
        getattr(self.handler, event)(self.args, self.state, self.control, *more)

    def log(self, step: int, **logs: object) -> None:
        self.state.global_step = step
        self.tell("on_log", logs)


@pytest.fixture
def callback():
    pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from mountkit import RunLogCallback

    made = RunLogCallback()
    yield made
    made._handler.detach()


def lines(output_dir: Path) -> list[dict]:
    return [json.loads(each) for each in (output_dir / "logs/metrics.jsonl").open()]


@pytest.mark.fault(30)
class TestCallback:
    def test_in_no_mount_all_is_written_to_the_folder(self, tmp_path, callback):
        import numpy as np
        from transformers.integrations import TensorBoardCallback

        board = TensorBoardCallback()
        job = Job(tmp_path, board, callback)
        job.tell("on_train_begin")
        logging.getLogger("somebody").warning("the fan is loud")
        job.log(1, loss=float("nan"), grad_norm=np.float32(0.5), note="odd")
        job.tell("on_train_end")
        logging.getLogger("somebody").warning("after it")
        (line,) = lines(tmp_path)
        assert (line["step"], line["loss"], line["grad_norm"]) == (1, "nan", 0.5)
        log = (tmp_path / "logs/training.log").read_text()
        assert "the fan is loud" in log
        assert "after it" not in log
        assert "Linear" in (tmp_path / "logs/model_info.txt").read_text()
        assert list((tmp_path / "logs/tensorboard").glob("events.out.tfevents.*"))

    @pytest.mark.parametrize("others", [0, 1])
    def test_a_warning_is_on_the_screen_as_without_it(self, tmp_path, callback, capsys, others):
        """A script that has set up no logging still sees what a library warns of."""
        Job(tmp_path, callback).tell("on_train_begin")
        logger = logging.getLogger("mountkit-tests-alone")
        # Else pytest's own handlers hear it.
        logger.propagate = False
        logger.addHandler(callback._handler)
        for _ in range(others):
            logger.addHandler(logging.NullHandler())
        try:
            logger.warning("the fan is loud")
            logger.info("the fan turns")
        finally:
            logger.handlers.clear()
        assert capsys.readouterr().err == ("" if others else "the fan is loud\n")
        assert "the fan is loud" in (tmp_path / "logs/training.log").read_text()

    def test_only_rank_0_writes(self, tmp_path, callback):
        job = Job(tmp_path, callback, rank=1)
        for event in ("on_train_begin", "on_save", "on_epoch_end", "on_train_end"):
            job.tell(event)
        job.log(1, loss=1.0)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("rank", [0, 1])
    def test_no_rank_is_refused_for_events_that_are_copied(self, tmp_path, callback, rank):
        from transformers.integrations import TensorBoardCallback

        from mountkit import CheckpointCallback

        proofs = CheckpointCallback()
        Job(tmp_path, TensorBoardCallback(), proofs).tell("on_train_begin")
        assert not proofs.events_are_mirrored
        Job(tmp_path, TensorBoardCallback(), proofs, callback, rank=rank).tell("on_train_begin")
        assert proofs.events_are_mirrored

    def test_added_in_the_middle_it_writes_from_then_on(self, tmp_path, callback):
        job = Job(tmp_path)
        job.tell("on_train_begin")
        job.handler.add_callback(callback)
        job.log(3, loss=1.0)
        assert [each["step"] for each in lines(tmp_path)] == [3]

    def test_a_second_training_goes_on_in_the_same_files(self, tmp_path, callback):
        for step in (1, 2):
            job = Job(tmp_path, callback)
            job.tell("on_train_begin")
            job.log(step, loss=1.0)
            job.tell("on_train_end")
        assert [each["step"] for each in lines(tmp_path)] == [1, 2]

    def test_a_disk_that_takes_nothing_ends_no_training(self, tmp_path, callback, caplog):
        (tmp_path / "logs").write_text("a file")
        job = Job(tmp_path, callback)
        job.tell("on_train_begin")
        job.log(1, loss=1.0)
        job.log(2, loss=1.0)
        job.tell("on_train_end")
        assert caplog.text.count("a log cannot be written") == 1

    def test_why_a_training_ended_is_its_last_word(self, tmp_path, callback):
        import torch
        from transformers import Trainer, TrainingArguments

        class Broken(torch.nn.Linear):
            def forward(self, **_: object) -> None:
                raise RuntimeError("the loss is a cat")

        arguments = TrainingArguments(
            output_dir=str(tmp_path), report_to="none", use_cpu=True, disable_tqdm=True
        )
        rows = [{"x": torch.zeros(2), "labels": 0}]
        trainer = Trainer(Broken(2, 2), arguments, train_dataset=rows, callbacks=[callback])
        arguments.remove_unused_columns = False
        with pytest.raises(RuntimeError, match="cat"):
            trainer.train()
        log = (tmp_path / "logs/training.log").read_text()
        assert "training ends with RuntimeError" in log
        assert log.rstrip().endswith("RuntimeError: the loss is a cat")
        assert not [each for each in logging.getLogger().handlers if each is callback._handler]
