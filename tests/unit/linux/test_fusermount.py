"""The program that mounts and unmounts."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from mountkit.errors import MountUnavailableError
from mountkit.linux import fusermount

if TYPE_CHECKING:
    from pathlib import Path


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


class TestFusermount:
    def test_it_is_found_on_the_given_path(self, tmp_path):
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            pytest.skip("/dev/fuse is missing or closed")
        path = program(tmp_path / "fusermount3", "exit 0")
        assert fusermount.fusermount(str(tmp_path)) == path

    def test_without_it_or_the_device_there_is_no_mount(self, tmp_path):
        with pytest.raises(MountUnavailableError) as caught:
            fusermount.fusermount(str(tmp_path))
        assert caught.value.hint
        assert caught.value.exit_code == 69


class TestUnmount:
    def test_what_it_is_asked(self, tmp_path):
        path = program(tmp_path / "f", f'printf "%s\\n" "$@" >> {tmp_path}/asked')
        assert fusermount.unmount(path, "/mnt/a b") == ""
        assert fusermount.unmount(path, "/mnt/a b", lazy=True) == ""
        words = (tmp_path / "asked").read_text().splitlines()
        assert words == ["-u", "/mnt/a b", "-u", "-z", "/mnt/a b"]

    @pytest.mark.parametrize(
        ("script", "said"), [("echo busy >&2; exit 1", "busy"), ("exit 1", "fusermount3 failed")]
    )
    def test_what_it_said(self, tmp_path, script, said):
        assert fusermount.unmount(program(tmp_path / "f", script), "/mnt") == said


class TestMountTable:
    def test_without_it_an_ordinary_user_could_not_unmount(self, tmp_path):
        table = tmp_path / "mtab"
        with pytest.raises(MountUnavailableError, match="not unmount again") as caught:
            fusermount.check_table(table, user=1000)
        assert f"ln -s /proc/self/mounts {table}" in caught.value.hint
        fusermount.check_table(table, user=0)
        table.symlink_to("/proc/self/mounts")
        fusermount.check_table(table, user=1000)


def refusal(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class TestNotOpened:
    @pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM])
    def test_what_the_engine_was_not_asked_for(self, number):
        # A device node alone is not enough: the engine has to let the container use it.
        assert fusermount.CONTAINER in fusermount.not_opened(refusal(number)).hint

    def test_a_mode_that_no_flag_of_the_engine_changes(self):
        hint = fusermount.not_opened(refusal(errno.EACCES)).hint
        assert "chmod 666 /dev/fuse" in hint
        assert "--device" not in hint

    @pytest.mark.parametrize("number", [errno.ENODEV, errno.ENXIO])
    def test_a_kernel_without_it(self, number):
        hint = fusermount.not_opened(refusal(number)).hint
        assert "modprobe fuse" in hint
        assert "--device" not in hint
