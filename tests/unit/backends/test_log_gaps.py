"""Lines that a daemon's log lacks, for its disk was full."""

from __future__ import annotations

import errno
import math
import threading
import time

import pytest

from mountkit.backends.base import LogGap
from mountkit.backends.log_gaps import LogGaps
from mountkit.backends.mountpoint import upload_log
from mountkit.backends.rclone import control

pytestmark = pytest.mark.fault(15)

RCLONE = ("2024/01/01 00:00:{:05.2f} ERROR : IO error: write /c/a: no space left", control.FORMAT)
MOUNTPOINT = ("2024-01-01T00:00:{:05.2f}0000Z DEBUG ThreadId(10) put succeeded", upload_log.FORMAT)
FIRST = 1704067200.0


@pytest.fixture(params=[RCLONE, MOUNTPOINT], ids=["rclone", "mountpoint"])
def made(request, tmp_path):
    """A log, the line of each second in it, and its gaps."""
    line, form = request.param
    return tmp_path / "daemon.log", line.format, LogGaps(tmp_path / "daemon.log", form)


def test_a_log_that_is_whole_has_none(made):
    log, line, gaps = made
    assert gaps.read() == ()
    log.write_text(f"{line(1)}\n{line(2)}\n")
    assert gaps.read() == ()


def test_a_line_that_is_being_written_just_now_is_none(made):
    log, line, gaps = made
    log.write_text(f"{line(1)}\n{line(3)[:40]}")
    ended = threading.Timer(0.03, lambda: log.write_text(f"{line(1)}\n{line(3)}\n"))
    ended.start()
    assert gaps.read() == ()
    ended.join()
    assert gaps.read() == ()


@pytest.mark.parametrize("cut", [3, 22, 50])
def test_one_ends_with_the_next_line(made, cut):
    log, line, gaps = made
    log.write_text(f"{line(1)}\n{line(3)[:cut]}{line(7)}\n{line(8)}\n")
    (gap,) = gaps.read()
    assert gap.until == FIRST + 7
    # As far as its own time can be read.
    assert gap.since == FIRST + (3 if cut == 50 else 1) or (cut == 22 and gap.since == FIRST + 3)
    assert gaps.read() == (gap,)


def test_the_line_before_it_may_have_been_read_before(made):
    log, line, gaps = made
    log.write_text(f"{line(1)}\n")
    assert gaps.read() == ()
    with log.open("a") as stream:
        stream.write(f"{line(3)[:10]}{line(7)}\n")
    assert gaps.read() == (LogGap(FIRST + 1, FIRST + 7),)


@pytest.mark.parametrize(("cut", "since"), [(50, 3), (10, 1)])
def test_one_that_no_line_ends_is_ended_where_there_is_room(made, cut, since):
    log, line, gaps = made
    log.write_text(f"{line(1)}\n{line(3)[:cut]}")
    before = time.time()
    (gap,) = gaps.read()
    assert gap.since == FIRST + since
    assert before <= gap.until <= time.time()
    assert log.read_text().endswith("lines are missing before this one\n")
    (again,) = gaps.read()
    assert again.since == gap.since
    assert abs(again.until - gap.until) < 1


@pytest.mark.parametrize("form", [control.FORMAT, upload_log.FORMAT])
def test_and_has_no_end_where_there_is_none(tmp_path, form):
    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "no space left on device")

    log = tmp_path / "daemon.log"
    log.write_text("2024")
    gaps = LogGaps(log, form, full)
    assert gaps.read() == (LogGap(0.0, math.inf),)
    # A write that was refused sets the time of the file anew.
    log.touch()
    assert gaps.read() == (LogGap(0.0, math.inf),)
