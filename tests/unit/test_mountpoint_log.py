"""What is read from Mountpoint's log. The lines are real ones, of 1.24."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.backends.mountpoint_log import Failure, failures

AT = datetime(2026, 11, 20, 11, 0, 5, 685290, tzinfo=timezone.utc).timestamp()
TIME = "2026-11-20T11:00:05.685290Z  WARN ThreadId(10) "
UPLOAD = (
    'put_object{id=9 bucket="bkt" key="run/checkpoint-1/a.bin"}: '
    "mountpoint_s3_client::s3_crt_client: duration=1.07ms request_id=<unknown> "
    "error=ClientError(CrtError(Error(14344, "
    '"aws-c-s3: AWS_ERROR_S3_MISSING_UPLOAD_ID, Upload Id not found"))) meta request failed'
)
WRITE = (
    'write{req=170 ino=6 fh=4 offset=10 length=1 pid=23953 name="s.bin"}: '
    "mountpoint_s3_fs::fuse: write failed with errno 22: upload error: out-of-order write is NOT "
    "supported by Mountpoint, aborting the upload; expected offset 100 but got 10"
)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "daemon.log"

    def write(*lines: str) -> tuple[Failure, ...]:
        path.write_text("".join(f"{line}\n" for line in lines))
        return failures(path)

    return write


def test_an_upload_that_failed_is_named_by_its_key(log):
    (found,) = log(TIME + UPLOAD)
    assert found.key
    assert found.name == "run/checkpoint-1/a.bin"
    assert found.reason == "aws-c-s3: AWS_ERROR_S3_MISSING_UPLOAD_ID, Upload Id not found"
    assert found.at == pytest.approx(AT)


def test_an_operation_that_failed_is_named_by_the_files_name(log):
    (found,) = log(TIME + WRITE)
    assert not found.key
    assert found.name == "s.bin"
    assert found.reason.startswith("upload error: out-of-order write is NOT supported")


def test_what_went_well_and_what_is_no_line_of_a_log_is_nothing(log):
    info = "2026-11-20T11:00:05.677528Z  INFO ThreadId(01) mountpoint_s3::run: mounted"
    assert log(info, "Stack backtrace:", "   0: <unknown>", "", "at ./csu/x.h:58:16") == ()


def test_no_log_is_no_failure(tmp_path):
    assert failures(tmp_path / "none") == ()


@pytest.mark.fault(39)
def test_a_key_with_quotes_and_a_newline_is_read_as_it_is(log):
    (found,) = log(TIME + UPLOAD.replace("a.bin", r"a\"b\nc\u{1b}ü"))
    assert found.name == 'run/checkpoint-1/a"b\nc\x1bü'


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    path = tmp_path / "log"
    path.write_text(f"{TIME}{WRITE}\n" + "x" * 5 * 1024 * 1024 + f"\n{TIME}{UPLOAD}\n")
    assert [found.key for found in failures(path)] == [True]


@given(st.text())
def test_no_text_makes_it_fail(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_text(TIME + text, errors="replace")
    failures(path)
