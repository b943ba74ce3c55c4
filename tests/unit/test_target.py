"""The directory to mount at: resolved without being touched, and used only if it is empty."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mountkit import mountinfo
from mountkit import target as targets
from mountkit.errors import MountUnavailableError


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


class TestResolve:
    def test_links_of_the_parents_are_followed(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        assert targets.resolve(tmp_path / "link" / "new") == str(tmp_path / "real" / "new")
        assert targets.resolve(tmp_path / "link") == str(tmp_path / "real")

    def test_it_is_absolute_and_plain(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert targets.resolve("a/../b/") == str(tmp_path / "b")
        assert targets.resolve("~/x") == str(Path(os.environ["HOME"]).resolve() / "x")

    def test_a_mount_point_and_the_root_are_themselves(self):
        assert targets.resolve("/proc/") == "/proc"
        assert targets.resolve("/") == "/"


class TestMakeReady:
    def test_a_new_directory_is_made_with_its_parents(self, tmp_path):
        targets.make_ready(str(tmp_path / "a" / "b"))
        assert (tmp_path / "a" / "b").is_dir()

    def test_an_empty_one_is_taken(self, tmp_path):
        targets.make_ready(str(tmp_path))

    @pytest.mark.fault(9)
    def test_one_that_holds_something_is_refused_and_kept(self, tmp_path):
        (tmp_path / "mine").write_text("x")
        with pytest.raises(MountUnavailableError) as caught:
            targets.make_ready(str(tmp_path))
        assert "not empty" in caught.value.message
        assert "mine" in caught.value.message
        assert (tmp_path / "mine").read_text() == "x"

    @pytest.mark.parametrize("below", ["", "below", "below/that"])
    def test_a_file_is_named(self, tmp_path, below):
        (tmp_path / "file").write_text("")
        with pytest.raises(MountUnavailableError, match="is a file") as caught:
            targets.make_ready(str(tmp_path / "file" / below))
        assert str(tmp_path / "file") in caught.value.message

    def test_a_dangling_link_is_refused(self, tmp_path):
        (tmp_path / "link").symlink_to("nowhere")
        with pytest.raises(MountUnavailableError):
            targets.make_ready(str(tmp_path / "link"))

    def test_one_that_cannot_be_made(self):
        with pytest.raises(MountUnavailableError, match="cannot be made"):
            targets.make_ready("/proc/mountkit")


class TestFusermount:
    def test_it_is_found_on_the_given_path(self, tmp_path):
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            pytest.skip("/dev/fuse is missing or closed")
        path = program(tmp_path / "fusermount3", "exit 0")
        assert targets.fusermount(str(tmp_path)) == path

    def test_without_it_or_the_device_there_is_no_mount(self, tmp_path):
        with pytest.raises(MountUnavailableError) as caught:
            targets.fusermount(str(tmp_path))
        assert caught.value.hint
        assert caught.value.exit_code == 69


class TestUnmount:
    def test_what_it_is_asked(self, tmp_path):
        path = program(tmp_path / "f", f'printf "%s\\n" "$@" >> {tmp_path}/asked')
        assert targets.unmount(path, "/mnt/a b") == ""
        assert targets.unmount(path, "/mnt/a b", lazy=True) == ""
        words = (tmp_path / "asked").read_text().splitlines()
        assert words == ["-u", "/mnt/a b", "-u", "-z", "/mnt/a b"]

    @pytest.mark.parametrize(
        ("script", "said"), [("echo busy >&2; exit 1", "busy"), ("exit 1", "fusermount3 failed")]
    )
    def test_what_it_said(self, tmp_path, script, said):
        assert targets.unmount(program(tmp_path / "f", script), "/mnt") == said


def test_a_foreign_mount_is_named_and_never_unmounted():
    entry = mountinfo.at("/proc")
    assert entry is not None
    error = targets.refuse_foreign("/proc", entry)
    assert "proc" in error.message
    assert "never unmounts" in error.hint


class TestWaiting:
    def test_the_condition_is_asked_once_if_it_holds(self):
        asked = []
        assert targets.wait_until(lambda: not asked.append(1), 0.0)
        assert asked == [1]

    def test_it_is_asked_again_until_it_holds(self):
        answers = iter([False, False, True])
        assert targets.wait_until(lambda: next(answers), 10.0)

    def test_it_has_an_end(self):
        began = time.monotonic()
        assert not targets.wait_until(lambda: False, 0.05)
        assert time.monotonic() - began < 5
