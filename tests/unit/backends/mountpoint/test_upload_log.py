"""What is read from Mountpoint's log. The lines are real ones, of 1.24."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mountkit
from mountkit.backends.mountpoint.upload_log import CUT_SHORT, MountpointLog

KEY = "run/checkpoint-1/a.bin"
ETAG = "8385d8b0f019a42cf0cc804d761426d2-1"
AT = datetime(2026, 11, 20, 11, 0, 5, 500000, tzinfo=UTC).timestamp()
CRT = "mountpoint_s3_client::s3_crt_client"

BEGAN = "INFO ThreadId(01) mountpoint_s3::run: mount-s3 1.24.0+mountkit-test"
STARTED = (
    f'DEBUG ThreadId(11) put_object{{id=9 bucket="bkt" key="{KEY}"}}: '
    f"{CRT}::put_object: new request"
)
NESTED = (
    f'DEBUG ThreadId(11) open{{req=1 ino=5 pid=7 name="a.bin"}}:put_object{{id=9 bucket="bkt" '
    f'key="{KEY}"}}: {CRT}::put_object: new request'
)
SUCCEEDED = (
    'DEBUG ThreadId(10) flush{req=28 ino=3 fh=1 pid=3846 name="a.bin"}: '
    f'mountpoint_s3_fs::fs::handles: put succeeded etag="\\"{ETAG}\\"" '
    f"key={KEY} (bucket: bkt) size=1000000"
)
REQUEST_FAILED = (
    f'WARN ThreadId(10) put_object{{id=9 bucket="bkt" key="{KEY}"}}: {CRT}: duration=1.07ms '
    "request_id=<unknown> error=ClientError(CrtError(Error(14344, "
    '"aws-c-s3: AWS_ERROR_S3_MISSING_UPLOAD_ID, Upload Id not found"))) meta request failed'
)
WRITE_FAILED = (
    'WARN ThreadId(07) write{req=170 ino=6 fh=4 offset=10 length=1 pid=23953 name="a.bin"}: '
    "mountpoint_s3_fs::fuse: write failed with errno 22: upload error: out-of-order write is NOT "
    "supported by Mountpoint, aborting the upload; expected offset 100 but got 10"
)
ABORTED = (
    'WARN ThreadId(11) flush{req=172 ino=6 fh=4 pid=23953 name="a.bin"}: mountpoint_s3_fs::fuse: '
    "flush failed with errno 22: upload already aborted for key "
    f'ValidKey {{ key: "{KEY}", name_offset: 17 }}'
)
REMOVED = (
    'DEBUG ThreadId(10) unlink{req=236 parent=2 name="a.bin" pid=3846}: '
    f"mountpoint_s3_fs::superblock: unlink on remote file will delete key {KEY} "
    'parent=2 name="a.bin"'
)
RENAMED = (
    'DEBUG ThreadId(07) rename{req=150 parent=2 name="a.bin" newparent=2 newname="c.bin"}: '
    f'mountpoint_s3_fs::superblock: RenameObject succeeded src_key=ValidKey {{ key: "{KEY}", '
    'name_offset: 17 } dest_key="run/checkpoint-1/c.bin"'
)
NOISE = """\
INFO ThreadId(01) mountpoint_s3::run: successfully mounted prefix run/ of bucket bkt
WARN ThreadId(09) getxattr{req=24 ino=3 name="security.capability" pid=2}: fuse: getxattr failed
DEBUG ThreadId(09) flush{req=2 ino=9 fh=9}: handles: not completing upload because nothing was writ
"""


class Log:
    """A log that grows."""

    def __init__(self, path) -> None:
        self.path = path
        self.reader = MountpointLog(path)
        self._second = 5

    def tell(self, *lines: str):
        with self.path.open("a") as stream:
            for line in lines:
                stream.write(f"2026-11-20T11:00:{self._second:02}.500000Z {line:>5}\n")
                self._second += 1
        return self.reader.read()


@pytest.fixture
def log(tmp_path) -> Log:
    return Log(tmp_path / "daemon.log")


def test_no_log_says_nothing(log):
    assert log.reader.read().done == {}


@pytest.mark.parametrize("started", [STARTED, NESTED])
def test_a_file_that_is_written_and_closed(log, started):
    assert log.tell(BEGAN, *NOISE.splitlines(), started).open == {KEY: AT + 4}
    found = log.tell(SUCCEEDED)
    assert found.open == {}
    assert (found.done[KEY].etag, found.done[KEY].size) == (ETAG, 1_000_000)
    assert found.done[KEY].at == AT + 5
    assert KEY in found.seen


@pytest.mark.fault(2, 14)
def test_an_upload_that_the_store_refused(log):
    found = log.tell(STARTED, REQUEST_FAILED, ABORTED)
    assert found.open == {}
    assert found.failed[KEY].reason == (
        "aws-c-s3: AWS_ERROR_S3_MISSING_UPLOAD_ID, Upload Id not found"
    )


def test_a_write_that_is_not_sequential(log):
    found = log.tell(STARTED, WRITE_FAILED, ABORTED)
    assert found.open == {}
    assert "out-of-order write is NOT supported" in found.failed[KEY].reason


def test_a_file_that_came_through_at_the_second_try(log):
    found = log.tell(STARTED, REQUEST_FAILED, STARTED, SUCCEEDED)
    assert found.failed == {}
    assert KEY in found.done


@pytest.mark.fault(2)
def test_a_second_try_that_failed_is_not_hidden_by_the_first(log):
    found = log.tell(STARTED, SUCCEEDED, STARTED, REQUEST_FAILED)
    assert KEY in found.failed


@pytest.mark.fault(6, 7)
def test_what_a_daemon_that_died_was_uploading_is_gone(log):
    found = log.tell(BEGAN, STARTED, BEGAN)
    assert found.open == {}
    assert found.failed[KEY].reason == CUT_SHORT
    assert KEY in log.tell(STARTED, SUCCEEDED).done


def test_a_file_that_was_removed(log):
    found = log.tell(STARTED, SUCCEEDED, REMOVED)
    assert found.done == {}
    assert KEY in found.seen


def test_a_file_that_was_renamed_has_what_the_old_one_had(log):
    found = log.tell(STARTED, SUCCEEDED, RENAMED)
    assert list(found.done) == ["run/checkpoint-1/c.bin"]
    assert found.done["run/checkpoint-1/c.bin"].etag == ETAG


@pytest.mark.fault(39)
def test_a_name_with_a_newline_quotes_and_a_backslash(log):
    raw = 'run/two\nlines \\ back"q.txt'
    quoted = r"run/two\nlines \\ back\"q.txt"
    assert list(log.tell(STARTED.replace(KEY, quoted)).open) == [raw]
    found = log.tell(SUCCEEDED.replace(KEY, raw))
    assert list(found.done) == [raw]
    assert found.open == {}
    assert log.tell(REMOVED.replace(KEY, raw)).done == {}


def test_the_end_of_a_line_may_come_later(log):
    log.tell(STARTED)
    line = f"2026-11-20T11:01:00.000000Z {SUCCEEDED}\n"
    with log.path.open("a") as stream:
        stream.write(line[:100])
        stream.flush()
        assert log.reader.read().done == {}
        stream.write(line[100:])
    assert list(log.reader.read().done) == [KEY]


@pytest.mark.fault(15)
def test_what_a_full_disk_took_of_a_line_is_no_part_of_another_one(log):
    log.tell(STARTED)
    for cut in (20, 90):
        with log.path.open("a") as stream:
            stream.write(f"2026-11-20T11:00:30.000000Z {SUCCEEDED}"[:cut])
        assert KEY in log.tell(STARTED, SUCCEEDED, REMOVED, STARTED, SUCCEEDED).done


def test_a_new_log_at_the_same_place_is_read_from_its_start(log):
    log.tell(STARTED, SUCCEEDED)
    log.path.replace(log.path.with_suffix(".old"))
    assert log.reader.read().done == {}
    assert log.tell(STARTED).done == {}


def test_what_was_read_does_not_change(log):
    before = log.tell(STARTED)
    log.tell(SUCCEEDED)
    assert before.done == {}


@given(st.text())
def test_no_text_makes_it_fail(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_text(f"2026-11-20T11:01:00.000000Z  WARN ThreadId(1) {text}\n", errors="replace")
    MountpointLog(path).read()


FORKED = """
import os, pathlib, signal, sys, threading
from mountkit.backends.mountpoint.upload_log import MountpointLog

log, held, done = MountpointLog(pathlib.Path(sys.argv[1])), threading.Event(), threading.Event()

def hold():
    with log._lock:
        held.set()
        done.wait()

threading.Thread(target=hold).start()
held.wait()
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    log.read()
    os._exit(0)
status = os.waitpid(pid, 0)[1]
done.set()
sys.exit(status != 0)
"""


def test_a_forked_child_reads_it_while_another_thread_did(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(mountkit.__file__).parents[1])}
    words = [sys.executable, "-c", FORKED, str(tmp_path / "log")]
    subprocess.run(words, env=environment, check=True, timeout=60)
