"""The directory to mount at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mountkit.errors import MountUnavailableError
from mountkit.linux import mount_table
from mountkit.linux.mount_table import MountEntry
from mountkit.mounts import mount_point

if TYPE_CHECKING:
    from pathlib import Path


def entry(target: Path, source: str = "mountkit-1", fstype: str = "fuse.rclone") -> MountEntry:
    return MountEntry(str(target), fstype, source, 52)


class TestMakeReady:
    def test_a_new_directory_is_made_with_its_parents(self, tmp_path):
        mount_point.make_ready(str(tmp_path / "a" / "b"))
        assert (tmp_path / "a" / "b").is_dir()

    def test_an_empty_one_is_taken(self, tmp_path):
        mount_point.make_ready(str(tmp_path))

    @pytest.mark.fault(9)
    def test_one_that_holds_something_is_refused_and_kept(self, tmp_path):
        (tmp_path / "mine").write_text("x")
        with pytest.raises(MountUnavailableError) as caught:
            mount_point.make_ready(str(tmp_path))
        assert "not empty" in caught.value.message
        assert "mine" in caught.value.message
        assert (tmp_path / "mine").read_text() == "x"

    @pytest.mark.parametrize("below", ["", "below", "below/that"])
    def test_a_file_is_named(self, tmp_path, below):
        (tmp_path / "file").write_text("")
        with pytest.raises(MountUnavailableError, match="is a file") as caught:
            mount_point.make_ready(str(tmp_path / "file" / below))
        assert str(tmp_path / "file") in caught.value.message

    def test_a_dangling_link_is_refused(self, tmp_path):
        (tmp_path / "link").symlink_to("nowhere")
        with pytest.raises(MountUnavailableError):
            mount_point.make_ready(str(tmp_path / "link"))

    def test_one_that_cannot_be_made(self):
        with pytest.raises(MountUnavailableError, match="cannot be made"):
            mount_point.make_ready("/proc/mountkit")


def test_a_foreign_mount_is_named_and_never_unmounted():
    entry = mount_table.at("/proc")
    assert entry is not None
    error = mount_point.refuse_foreign("/proc", entry)
    assert "proc" in error.message
    assert "never unmounts" in error.hint
