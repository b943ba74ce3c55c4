"""The directory to mount at: resolved without being touched, and used only if it is empty."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mountkit import backends
from mountkit.backends.rclone.backend import device_name
from mountkit.errors import UsageError
from mountkit.linux import paths
from mountkit.linux.mount_table import MountEntry, mount_around
from mountkit.spec import MountSpec, Source, StoreOptions


class TestResolve:
    def test_links_of_the_parents_are_followed(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        assert paths.resolve(tmp_path / "link" / "new") == str(tmp_path / "real" / "new")
        assert paths.resolve(tmp_path / "link") == str(tmp_path / "real")

    def test_it_is_absolute_and_plain(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert paths.resolve("a/../b/") == str(tmp_path / "b")
        assert paths.resolve("~/x") == str(Path(os.environ["HOME"]).resolve() / "x")

    def test_a_mount_point_and_the_root_are_themselves(self):
        assert paths.resolve("/proc/") == "/proc"
        assert paths.resolve("/") == "/"

    def test_a_link_is_followed_before_its_parent_is_taken(self, tmp_path):
        (tmp_path / "a" / "deep").mkdir(parents=True)
        (tmp_path / "link").symlink_to("a/deep")
        assert paths.resolve(tmp_path / "link" / ".." / "b") == str(tmp_path / "a" / "b")
        assert paths.resolve("/../.././x") == "/x"

    def test_links_that_lead_in_a_circle_have_an_end(self, tmp_path):
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        assert paths.resolve(tmp_path / "a" / "x").startswith(str(tmp_path))

    def test_what_may_not_be_looked_at_is_taken_as_it_is(self, tmp_path):
        (tmp_path / "file").write_text("")
        assert paths.resolve(tmp_path / "file" / "x") == str(tmp_path / "file" / "x")

    def test_a_current_directory_that_is_gone(self, tmp_path, monkeypatch):
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        assert paths.resolve("/proc/..") == "/"
        with pytest.raises(UsageError, match="the current directory is gone") as caught:
            paths.resolve("here")
        assert "whole path" in caught.value.hint


def entry(target: Path, source: str = "mountkit-1", fstype: str = "fuse.rclone") -> MountEntry:
    return MountEntry(str(target), fstype, source, 52)


class TestResolveWithin:
    def test_it_is_asked_of_the_file_system(self, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "a b")
        assert paths.resolve_within(f"{tmp_path}/link/x", 30.0) == f"{tmp_path}/a b/x"

    def test_without_an_answer_its_letters_count(self, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "a b")
        assert paths.resolve_within(f"{tmp_path}/link/./x", 0.0) == f"{tmp_path}/link/x"


class TestMountAround:
    @pytest.mark.parametrize("source", ["mountkit-1", "mountpoint-s3"])
    def test_a_backends_mount_and_what_is_below(self, source):
        table = [entry(Path("/"), "overlay", "overlay"), entry(Path("/mnt/a"), source)]
        assert mount_around("/mnt/a", table) == "/mnt/a"
        assert mount_around("/mnt/a/b/c", table) == "/mnt/a"
        assert mount_around("/mnt/a-2", table) is None
        assert mount_around("/mnt", table) is None

    def test_the_innermost_of_several(self):
        table = [entry(Path(target)) for target in ("/a", "/a/b/c", "/a/b")]
        assert mount_around("/a/b/c/d", table) == "/a/b/c"

    def test_the_root_of_a_container_and_a_home_are_as_anywhere_else(self):
        table = [
            entry(Path("/"), "fuse-overlayfs", "fuse.fuse-overlayfs"),
            entry(Path("/home"), "me@far:", "fuse.sshfs"),
        ]
        assert mount_around("/home/me", table) is None

    def test_what_the_backends_mount_is_known_by_its_name(self):
        spec = MountSpec(Source("s3", "b", ""), "/mnt", "rclone", StoreOptions(), "/c")
        for name, source in {"rclone": device_name(spec.id), "mountpoint": "mountpoint-s3"}.items():
            there = entry(Path("/mnt"), source)
            assert backends.load(name).matches(there, spec.id, there.minor)
            assert mount_around("/mnt", [there]) == "/mnt"
        assert {name for name in backends.NAMES if backends.load(name).mounts} == {
            "rclone",
            "mountpoint",
        }


@pytest.mark.fault(8)
class TestResolveInAMount:
    """Links that lead away stand for what must not be looked at: to see them is to touch it."""

    @pytest.fixture
    def mounted(self, tmp_path) -> Path:
        inside = tmp_path / "mnt"
        (inside / "deep").mkdir(parents=True)
        (inside / "link").symlink_to("/elsewhere")
        (inside / "deep" / "link").symlink_to("/elsewhere")
        return inside

    @pytest.mark.parametrize("below", ["link", "link/x", "deep/link", "deep/link/x"])
    def test_nothing_below_it_is_touched(self, mounted, below):
        path = f"{mounted}/{below}"
        assert paths.resolve(path, ()).startswith("/elsewhere")
        assert paths.resolve(path, [entry(mounted)]) == path

    def test_the_mount_itself_is_not(self, mounted, tmp_path):
        (tmp_path / "away").symlink_to("/elsewhere")
        assert paths.resolve(tmp_path / "away", [entry(tmp_path / "away")]) == f"{tmp_path}/away"

    def test_nor_where_somebody_else_has_mounted_something(self, tmp_path):
        (tmp_path / "away").symlink_to("/elsewhere")
        table = [entry(tmp_path / "away", "server:/", "nfs4")]
        assert paths.resolve(tmp_path / "away", table) == f"{tmp_path}/away"

    def test_a_link_to_it_is_followed_as_far_as_it(self, mounted, tmp_path):
        (tmp_path / "to").symlink_to("mnt/deep")
        resolved = paths.resolve(tmp_path / "to" / "link", [entry(mounted)])
        assert resolved == f"{mounted}/deep/link"

    def test_dots_lead_through_it_and_out_of_it_by_the_letters(self, mounted, tmp_path):
        (tmp_path / "beside").symlink_to("other")
        table = [entry(mounted)]
        assert paths.resolve(f"{mounted}/link/../x", table) == f"{mounted}/x"
        assert paths.resolve(f"{mounted}/link/../../beside", table) == f"{tmp_path}/other"

    def test_from_within_it(self, mounted, monkeypatch):
        monkeypatch.chdir(mounted / "deep")
        assert paths.resolve("link", [entry(mounted)]) == f"{mounted}/deep/link"
        assert paths.resolve("../link", [entry(mounted)]) == f"{mounted}/link"
