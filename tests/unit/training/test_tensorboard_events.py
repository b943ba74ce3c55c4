"""TensorBoard's events go to the local disk, wherever they were to go; the mount is a folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from mountkit.training import tensorboard_events
from mountkit.training.log_files import LogFiles
from mountkit.writers.whole_file import Copied

pytestmark = pytest.mark.fault(30)


@pytest.fixture
def files(tmp_path, monkeypatch) -> LogFiles:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mount = SimpleNamespace(path=str(tmp_path / "mnt"))
    top = Path(mount.path) / "out/logs"
    copied: list[Path] = []

    def copy(_: object, pairs: list[tuple[Path, Path]]) -> Copied:
        copied.extend(there for _, there in pairs)
        return Copied(tuple(local for local, _ in pairs))

    made = LogFiles(top, mount, copy=copy, mounted=lambda _: True)
    made.copied = copied
    return made


def board(**more: object) -> SimpleNamespace:
    return SimpleNamespace(**{"tb_writer": None, "logging_dir": None, **more})


def state(trial: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(is_hyper_param_search=trial is not None, trial_name=trial)


def arrives(files: LogFiles, folder: str) -> list[str]:
    """Where a file that is written to a folder is copied to, below the mount."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / "events").write_text("an event")
    assert files.copy() == []
    assert not place.is_relative_to(files.mount.path)
    return [path.relative_to(files.mount.path).as_posix() for path in files.copied]


def test_where_nothing_was_said(files):
    one = board()
    assert tensorboard_events.redirect(one, state(), files)
    assert arrives(files, one.logging_dir) == ["out/logs/tensorboard/events"]


def test_again_for_a_second_training(files):
    one = board()
    for _ in range(2):
        assert tensorboard_events.redirect(one, state(), files)
    assert arrives(files, one.logging_dir) == ["out/logs/tensorboard/events"]


def test_a_place_in_the_mount_that_was_asked_for(files):
    one = board(logging_dir=f"{files.mount.path}/boards/x")
    assert tensorboard_events.redirect(one, state(), files)
    assert arrives(files, one.logging_dir) == ["boards/x/events"]


def test_a_place_outside_is_left_alone_and_copied_from(files, tmp_path):
    one = board(logging_dir=str(tmp_path / "own"))
    assert tensorboard_events.redirect(one, state(), files)
    assert one.logging_dir == str(tmp_path / "own")
    assert arrives(files, one.logging_dir) == ["out/logs/tensorboard/events"]


def test_a_writer_that_is_open_in_the_mount_cannot_be_redirected(files):
    opened = SimpleNamespace(log_dir=f"{files.mount.path}/out/runs")
    assert not tensorboard_events.redirect(board(tb_writer=opened), state(), files)


def test_one_that_is_open_elsewhere_is_copied_from(files, tmp_path):
    opened = SimpleNamespace(log_dir=str(tmp_path / "own"))
    assert tensorboard_events.redirect(board(tb_writer=opened), state(), files)
    assert arrives(files, opened.log_dir) == ["out/logs/tensorboard/events"]


def test_a_trial_of_a_search_has_a_folder_of_its_own(files):
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    one = board()
    assert tensorboard_events.redirect(one, state("run-0"), files)
    one.tb_writer.close()
    assert files.copy() == []
    (copied,) = files.copied
    assert copied.parent == files.top / "tensorboard/run-0"


def test_what_would_be_refused_without_that(files, monkeypatch):
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    args = SimpleNamespace(report_to=["tensorboard"], output_dir=f"{files.mount.path}/out")
    assert tensorboard_events.inside(args, files.mount) == args.output_dir
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "/somewhere/else")
    assert tensorboard_events.inside(args, files.mount) == ""
    args.report_to = []
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR")
    assert tensorboard_events.inside(args, files.mount) == ""
