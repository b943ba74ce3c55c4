"""Which removals of a directory that is not there any more are taken for success."""
# What is tested here are the very calls of os.
# ruff: noqa: PTH106, PTH108

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mountkit.errors import MountUnavailableError
from mountkit.writers import removal
from mountkit.writers.hooks import Hooks, Place


@pytest.fixture
def log() -> dict[str, float]:
    """By directory, when a file below it was removed."""
    return {}


@pytest.fixture
def mounted() -> dict[str, bool]:
    return {"now": True}


@pytest.fixture
def mnt(tmp_path, log, mounted):
    path = Path(os.path.realpath(tmp_path)) / "mnt"
    path.mkdir()
    hooks, before = Hooks(), (os.rmdir, set(os.supports_dir_fd))
    place = Place(
        str(path), tmp_path, lambda: mounted["now"], emptied=lambda name: log.get(name, 0.0)
    )
    hooks.add(place)
    yield path
    hooks.remove(place.path)
    assert (os.rmdir, set(os.supports_dir_fd)) == before


def gone(path) -> bool:
    """Whether the removal of a directory that is not there is a success."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return False
    return True


def test_one_that_went_with_its_last_file_once_for_each_time(mnt, log):
    assert not gone(mnt / "a"), "it never was"
    log["a"] = 5.0
    assert gone(mnt / "a")
    assert not gone(mnt / "a"), "the second time it is not there"
    log["a"] = 6.0
    assert gone(mnt / "a"), "it was made, filled and emptied again"
    assert not gone(mnt / "a/b")


@pytest.mark.parametrize("shape", ["{}/", "{}//", "{}/b/../", "{}/../a"])
def test_any_way_to_write_it(mnt, log, shape):
    log["a"] = 1.0
    known = shape != "{}/b/../"
    # A path that ends in ".." is no name of a directory.
    assert gone(shape.format(mnt / "a")) is known


def test_bytes_links_and_relative_paths(mnt, log, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(mnt)
    monkeypatch.chdir(tmp_path)
    for number, path in enumerate((os.fsencode(mnt / "a"), "link/a", "mnt/a", Path("link/a"))):
        log["a"] = number + 1.0
        assert gone(path), path


def test_from_an_open_directory(mnt, log):
    (mnt / "a").mkdir()
    log.update({"a/b": 1.0, "a": 1.0})
    descriptor = os.open(mnt / "a", os.O_RDONLY)
    try:
        os.rmdir("b", dir_fd=descriptor)
        with pytest.raises(FileNotFoundError):
            os.rmdir("c", dir_fd=descriptor)
        (mnt / "a").rmdir()
        log["a/b"] = 2.0
        os.rmdir("b", dir_fd=descriptor)
    finally:
        os.close(descriptor)
    with pytest.raises(FileNotFoundError):
        # Of a directory nobody knows where it is, nothing is known; not even of a name here.
        os.rmdir(removal.plain("b", descriptor) or "nowhere")


def test_every_other_error_is_raised(mnt, log):
    log.update({"full": 1.0, "file": 1.0})
    (mnt / "full").mkdir()
    (mnt / "full" / "kept").touch()
    (mnt / "file").touch()
    with pytest.raises(OSError, match="not empty"):
        os.rmdir(mnt / "full")
    with pytest.raises(NotADirectoryError):
        os.rmdir(mnt / "file")
    with pytest.raises(TypeError):
        os.rmdir(None)
    assert (mnt / "full" / "kept").exists()


def test_elsewhere_and_while_nothing_is_mounted_nobody_asks(mnt, log, mounted, tmp_path):
    log.update({"a": 1.0, "../elsewhere": 1.0})
    assert not gone(tmp_path / "elsewhere")
    mounted["now"] = False
    assert not gone(mnt / "a")


def test_a_log_that_cannot_be_read_changes_nothing(tmp_path):
    def unknown(_: str) -> float:
        raise MountUnavailableError("nobody knows")

    hooks, path = Hooks(), os.path.realpath(tmp_path)
    hooks.add(Place(path, tmp_path, lambda: True, emptied=unknown))
    try:
        assert not gone(tmp_path / "a")
    finally:
        hooks.remove(path)


def test_what_ends_in_it(mnt, log, monkeypatch):
    def vanishing(path, *, dir_fd=None):
        """A mount on which a directory goes with its last file."""
        unlink(path, dir_fd=dir_fd)
        place = Path(f"/proc/self/fd/{dir_fd}").readlink() if dir_fd else Path(path).parent
        while place != mnt and not any(place.iterdir()):
            rmdir(place)
            log[place.relative_to(mnt).as_posix()] = 1.0 + len(log)
            place = place.parent

    def make(top: Path) -> Path:
        for name in ("a/b/file", "a/file", "c/file"):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).touch()
        (top / "empty").mkdir()
        return top

    (mnt / "kept").touch()
    unlink, rmdir = os.unlink, os.rmdir.__wrapped__
    vanishing_in = {*os.supports_dir_fd, vanishing}
    monkeypatch.setattr(os, "supports_dir_fd", vanishing_in)
    monkeypatch.setattr(os, "unlink", vanishing)
    shutil.rmtree(make(mnt / "tree"))
    problems = []
    told = "onexc" if sys.version_info >= (3, 12) else "onerror"
    shutil.rmtree(make(mnt / "told"), **{told: lambda *what: problems.append(what)})
    assert problems == []
    for place, folders, names in os.walk(make(mnt / "walk"), topdown=False):
        for name in names:
            os.unlink(Path(place, name))
        for name in folders:
            Path(place, name).rmdir()
    Path(mnt / "walk").rmdir()
    (mnt / "parents" / "leaf").mkdir(parents=True)
    (mnt / "parents" / "leaf" / "file").touch()
    os.unlink(mnt / "parents" / "leaf" / "file")
    os.removedirs(mnt / "parents" / "leaf")
    assert list(mnt.iterdir()) == [mnt / "kept"]


# shutil decides at its import whether it removes trees in the way that no link can mislead.
SAFE = """
import os, pathlib, sys
from mountkit.writers.hooks import Hooks, Place
sys.modules.pop("shutil")
original = os.rmdir
hooks = Hooks()
hooks.add(Place("/nowhere", pathlib.Path("/"), lambda: True))
assert os.rmdir is not original
import shutil
assert shutil.rmtree.avoids_symlink_attacks
assert os.rmdir in os.supports_dir_fd
hooked = os.rmdir
hooks.remove("/nowhere")
assert os.rmdir is original
assert hooked not in os.supports_dir_fd
"""


def test_trees_are_removed_in_the_safe_way():
    environment = {**os.environ, "PYTHONPATH": str(Path(removal.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", SAFE], env=environment, check=True, timeout=60)
