"""What rclone's log tells of bytes that the disk of its cache did not take."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime

import pytest

from mountkit.backends.rclone.refusals import RcloneRefusals, made_since, seconds

FULL = "no space left on device"


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y/%m/%d %H:%M:%S.%f")


@pytest.fixture
def log(tmp_path):
    return tmp_path / "daemon.log"


@pytest.mark.parametrize(
    ("said", "place", "why"),
    [
        (f"write /c/vfs/a.bin: {FULL}", "/c/vfs/a.bin", FULL),
        ("write /c/vfs/a b: c.bin: input/output error", "/c/vfs/a b: c.bin", "input/output error"),
        ("truncate /c/vfs/a: disk quota exceeded", "/c/vfs/a", "disk quota exceeded"),
        (f"vfs cache item: failed: write /c/vfs/a: {FULL}", "/c/vfs/a", FULL),
    ],
)
def test_a_write_that_failed(log, said, place, why):
    log.write_text(f"2024/01/01 00:00:01.250000 ERROR : IO error: {said}\n")
    assert RcloneRefusals(log).read() == {place: (1704067201.25, why)}


@pytest.mark.parametrize(
    "line",
    [
        "2024/01/01 00:00:01 ERROR : IO error: read /c/vfs/a: input/output error",
        "2024/01/01 00:00:01 ERROR : a: vfs cache: failed to upload try #1: write /c/vfs/a: no",
        "2024/01/01 00:00:01 NOTICE: IO error: write /c/vfs/a: no",
        "2024/01/01 00:00:01 ERROR : IO error: context canceled",
        "",
    ],
)
def test_no_bytes_of_a_program(log, line):
    log.write_text(f"{line}\n")
    assert RcloneRefusals(log).read() == {}


def test_a_log_that_grows_and_one_that_is_begun_anew(log):
    refusals = RcloneRefusals(log)
    assert refusals.read() == {}
    first = f"2024/01/01 00:00:01 ERROR : IO error: write /c/a: {FULL}\n"
    second = f"2024/01/01 00:00:02 ERROR : IO error: write /c/b: {FULL}\n"
    log.write_text(first + second[:40])
    assert set(refusals.read()) == {"/c/a"}
    log.write_text(first + second)
    assert set(refusals.read()) == {"/c/a", "/c/b"}
    log.replace(log.with_suffix(".log.1"))
    log.write_text(second)
    assert set(refusals.read()) == {"/c/b"}


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2024/01/01 00:00:01", 1704067201.0),
        ("2024/01/01 00:00:01.5", 1704067201.5),
        ("2024/99/99 99:99:99", 0.0),
    ],
)
def test_a_moment(text, at):
    assert seconds(text) == at


def test_a_file_that_is_made_and_one_that_is_changed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"first")
    before = time.time() - 60
    if not made_since(path, before):
        pytest.skip("no time of birth is told here")
    assert not made_since(path, time.time() + 1)
    os.utime(path, (before + 3600, before + 3600))
    assert not made_since(path, time.time() + 1), "its other times say nothing"
    assert not made_since(tmp_path / "none", before)


class TestControl:
    def fail(self, tmp_path, log, path: str, at: float) -> None:
        for tree, text in (("vfs", "short"), ("vfsMeta", json.dumps(self.record()))):
            place = tmp_path / tree / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        with log.open("a") as stream:
            place = tmp_path / "vfs" / path
            stream.write(f"{stamp(at)} ERROR : IO error: write {place}: {FULL}\n")

    def record(self) -> dict[str, object]:
        whole = [{"Pos": 0, "Size": 5}]
        return {"ModTime": "2024-05-06T07:08:09Z", "Size": 5, "Rs": whole, "Dirty": False}

    def test_it_is_lost_and_no_manifest_speaks_for_it(self, tmp_path, log, daemon, control):
        daemon.queue()
        self.fail(tmp_path, log, "deep/er/a.bin", time.time() + 60)
        ((path, reason),) = control.flush_uploads().lost
        assert path == "deep/er/a.bin"
        assert FULL in reason
        assert [file.dirty for file in control.files()] == [True]

    @pytest.mark.parametrize("how", ["removed", "of another mount"])
    def test_nobody_misses_it(self, tmp_path, log, daemon, control, how):
        daemon.queue()
        self.fail(tmp_path, log, "a.bin", time.time() + 60)
        if how == "removed":
            (tmp_path / "vfs/a.bin").unlink()
        else:
            text = log.read_text().replace(f"{tmp_path}/vfs/", f"{tmp_path}/vfs-of-another/")
            log.write_text(text)
        assert control.flush_uploads().lost == ()

    def test_it_was_made_since(self, tmp_path, log, daemon, control):
        daemon.queue()
        self.fail(tmp_path, log, "a.bin", time.time() - 60)
        if not made_since(tmp_path / "vfs/a.bin", time.time() - 60):
            pytest.skip("no time of birth is told here")
        assert control.flush_uploads().lost == ()
        assert [file.dirty for file in control.files()] == [False]
