"""Holes, on file systems that tell of them, that do not, and that compress."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from mountkit.linux.sparse_files import has_hole

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.fault(11, 12)

WHOLE = b"x" * 300_000


def compressed(descriptor: int) -> SimpleNamespace:
    """What ZFS says of a file that it has compressed."""
    return SimpleNamespace(st_size=os.fstat(descriptor).st_size, st_blocks=1)


def refuse(number: int):
    def lseek(*_: int) -> int:
        raise OSError(number, os.strerror(number))

    return lseek


def all_data(descriptor: int, _: int, __: int) -> int:
    """A file system that calls every file data, from its beginning to its end."""
    return os.fstat(descriptor).st_size


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "whole"
    path.write_bytes(WHOLE)
    return path


@pytest.fixture
def torn(tmp_path: Path) -> Path:
    path = tmp_path / "torn"
    path.write_bytes(WHOLE)
    os.truncate(path, 4 * len(WHOLE))
    return path


def test_a_whole_file_has_none(whole, tmp_path):
    assert not has_hole(whole, tmp_path)


@pytest.mark.parametrize("begins", [0, 1 << 20])
def test_one_that_was_not_written_everywhere_has(tmp_path, begins):
    path = tmp_path / "torn"
    with path.open("wb") as stream:
        stream.seek(begins)
        stream.write(WHOLE)
    os.truncate(path, (1 << 20) + 2 * len(WHOLE))
    assert has_hole(path, tmp_path)


def test_an_empty_one_has_none_whatever_the_file_system_says(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    for number in (errno.ENXIO, errno.EINVAL):
        assert not has_hole(path, tmp_path, lseek=refuse(number))


def test_a_whole_file_that_is_compressed_has_none(whole, tmp_path):
    assert not has_hole(whole, tmp_path, fstat=compressed)


def test_a_torn_one_that_is_compressed_has(torn, tmp_path):
    assert has_hole(torn, tmp_path, fstat=compressed)


def test_blocks_that_were_reserved_and_never_written_are_one(tmp_path):
    path = tmp_path / "reserved"
    path.write_bytes(b"")
    with path.open("r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, len(WHOLE))
        except OSError:
            pytest.skip("this file system reserves nothing")
    assert has_hole(path, tmp_path)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_where_nobody_can_tell_the_blocks_are_counted(whole, torn, tmp_path, number):
    assert not has_hole(whole, tmp_path, lseek=refuse(number))
    assert has_hole(torn, tmp_path, lseek=refuse(number))


def test_a_file_system_that_calls_every_file_data_is_not_believed(whole, torn, tmp_path):
    assert not has_hole(whole, tmp_path, lseek=all_data)
    assert has_hole(torn, tmp_path, lseek=all_data)


def test_nor_is_one_on_which_that_cannot_be_tried(whole, tmp_path):
    assert has_hole(whole, tmp_path / "gone", fstat=compressed)


def test_another_error_is_told(whole, tmp_path):
    with pytest.raises(OSError, match="Input/output error"):
        has_hole(whole, tmp_path, lseek=refuse(errno.EIO))
