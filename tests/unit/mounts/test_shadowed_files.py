"""Look below a mount through what its supervisor holds open, with this process for a supervisor."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from mountkit.linux.process import ProcessIdentity
from mountkit.mounts.shadowed_files import held_open
from support.fakes import open_descriptors

pytestmark = pytest.mark.fault(42)


@pytest.fixture
def held(tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "file").write_text("x")
    descriptor = os.open(tmp_path / "bare", os.O_RDONLY)
    yield str(tmp_path / "bare")
    os.close(descriptor)


def test_what_is_in_the_directory_is_seen(held):
    before = open_descriptors()
    with held_open(ProcessIdentity.mine(), held) as bare:
        assert [path.name for path in bare.iterdir()] == ["file"]
    assert open_descriptors() == before


def test_a_directory_that_nobody_holds_is_not(held, tmp_path):
    with held_open(ProcessIdentity.mine(), str(tmp_path)) as bare:
        assert bare is None


def test_nor_what_is_mounted_there():
    descriptor = os.open("/proc", os.O_RDONLY)
    try:
        with held_open(ProcessIdentity.mine(), "/proc") as bare:
            assert bare is None
    finally:
        os.close(descriptor)


def test_nor_that_of_a_supervisor_that_is_gone(held):
    with held_open(replace(ProcessIdentity.mine(), started=1.0), held) as bare:
        assert bare is None
