"""Where the working directory lies, and what becomes of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mountkit.errors import MountUnavailableError
from mountkit.mounts import working_directory

pytestmark = pytest.mark.fault(43)


@pytest.fixture
def target(tmp_path):
    (tmp_path / "mnt" / "sub").mkdir(parents=True)
    (tmp_path / "mnt-2").mkdir()
    return tmp_path / "mnt"


@pytest.mark.parametrize(
    ("here", "place"),
    [("mnt", "."), ("mnt/sub", "sub"), ("mnt-2", None), (".", None), ("link", ".")],
)
def test_a_place_is_told_by_the_path_of_the_kernel(target, monkeypatch, here, place):
    (target.parent / "link").symlink_to(target)
    monkeypatch.chdir(target.parent / here)
    assert working_directory.place_in(str(target)) == place


def test_one_that_is_gone_lies_nowhere(target, monkeypatch):
    monkeypatch.chdir(target / "sub")
    (target / "sub").rmdir()
    assert working_directory.place_in(str(target)) is None


def test_it_is_the_old_one_again_at_the_end(target, monkeypatch):
    monkeypatch.chdir(target)
    with working_directory.stepped_into(str(target), "new/deep"):
        assert Path.cwd() == target / "new" / "deep"
    assert Path.cwd() == target


def test_also_after_an_error_and_from_another_place_in_the_mount(target, monkeypatch):
    monkeypatch.chdir(target / "sub")

    def work():
        with working_directory.stepped_into(str(target), "sub"):
            os.chdir(target)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert Path.cwd() == target / "sub"


def test_who_has_gone_elsewhere_is_left_there(target, monkeypatch):
    monkeypatch.chdir(target)
    with working_directory.stepped_into(str(target), "."):
        os.chdir(target.parent)
    assert Path.cwd() == target.parent


def test_who_stands_elsewhere_stays(target, monkeypatch):
    monkeypatch.chdir(target.parent)
    with working_directory.stepped_into(str(target), None):
        assert Path.cwd() == target.parent


def test_a_place_that_cannot_be_made_is_an_error(target, monkeypatch):
    monkeypatch.chdir(target)
    (target / "file").write_text("")
    with pytest.raises(MountUnavailableError, match="File exists"):
        working_directory.make_place(str(target), "file")
