"""What is read from Mountpoint's log of refusals. The lines are real ones, of 1.24."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.backends.mountpoint_refusals import Refusals

APPEND = (
    'open{req=34 ino=3 pid=6767 name="a"}: mountpoint_s3_fs::fuse: open failed with errno 1: '
    'inode error: inode 3 (partial key "dir/a") is not writable'
)
READ_ONLY = (
    'open{req=106 ino=8 pid=6767 name="busy"}: mountpoint_s3_fs::fuse: open failed with errno 1: '
    'inode error: inode 8 (partial key "dir/busy") is not readable while being written'
)
BOTH = (
    'open{req=106 ino=8 pid=6767 name="busy"}: mountpoint_s3_fs::superblock: open choosing read '
    "handle for O_RDWR"
)
WRITE = (
    'write{req=54 ino=5 fh=5 offset=0 length=2 pid=6767 name="there.txt"}: mountpoint_s3_fs::fuse: '
    "write failed with errno 9: file handle is not open for writes"
)
STORED = (
    'flush{req=28 ino=5 fh=1 pid=6767 name="there.txt"}: mountpoint_s3_fs::fs::handles: '
    'put succeeded etag="\\"x-1\\"" key=run/old/there.txt (bucket: bkt) size=10'
)
TIMES = (
    "setattr{req=138 ino=3 pid=6767}: mountpoint_s3_fs::fs: fs:setattr with ino 3 flags None atime "
    "Some(2026-01-01 0:00:01.0 +00:00:00) mtime Some(2026-01-01 0:00:01.0 +00:00:00) size None"
)


# The moment that TIMES sets.
TOUCHED = datetime(2026, 1, 1, 0, 0, 1, tzinfo=timezone.utc).timestamp()


@pytest.fixture
def refusals() -> Refusals:
    return Refusals("run/")


def test_an_upload_makes_it_good_if_it_began_later(refusals):
    refusals.take(10.0, APPEND)
    refusals.stored("run/dir/a", 9.0, 1, "", 11.0)
    assert list(refusals.found) == ["dir/a"]
    refusals.stored("run/dir/a", 12.0, 1, "", 13.0)
    assert refusals.found == {}


def test_a_reader_that_is_refused_loses_nothing_and_one_that_would_write_does(refusals):
    refusals.take(1.0, READ_ONLY)
    assert refusals.found == {}
    refusals.take(1.0, BOTH)
    refusals.take(1.0, READ_ONLY)
    assert list(refusals.found) == ["dir/busy"]


def test_a_path_that_the_log_did_not_tell_is_not_guessed(refusals):
    refusals.take(1.0, WRITE)
    assert list(refusals.found) == [".../there.txt"]
    refusals.stored("run/elsewhere/other.txt", 2.0, 1, "", 3.0)
    another = STORED.replace("ino=5", "ino=6").replace("run/old", "run/another")
    refusals.stored("run/another/there.txt", 2.0, 10, another, 3.0)
    assert list(refusals.found) == [".../there.txt"], "it has the name, and is another file"
    refusals.stored("run/old/there.txt", 4.0, 10, STORED, 5.0)
    assert refusals.found == {}
    refusals.take(6.0, WRITE)
    assert list(refusals.found) == ["old/there.txt"]
    refusals.began()
    refusals.removed("run/old/there.txt")
    refusals.take(7.0, WRITE)
    assert list(refusals.found) == [".../there.txt"], "another daemon's inodes are others"


@pytest.mark.parametrize("taken_away", [True, False])
def test_a_file_that_was_removed_and_made_anew_takes_its_place(refusals, taken_away):
    refusals.take(1.0, WRITE)
    if taken_away:
        refusals.removed("run/old/there.txt")
    anew = STORED.replace("ino=5", "ino=7")
    refusals.stored("run/old/there.txt", 2.0, 10, anew, 3.0)
    assert list(refusals.found) == ([] if taken_away else [".../there.txt"])


@pytest.mark.parametrize("order", [(APPEND, TIMES), (TIMES, APPEND)])
def test_a_touch_writes_nothing(refusals, order):
    for at, line in enumerate(order):
        refusals.take(TOUCHED + at / 100, line)
    assert refusals.found == {}
    refusals.take(TOUCHED + 100, APPEND)
    assert list(refusals.found) == ["dir/a"]


def test_a_copy_that_has_its_sources_times_is_no_touch(refusals):
    refusals.take(TOUCHED + 1, TIMES)
    refusals.take(TOUCHED + 1.01, APPEND)
    assert list(refusals.found) == ["dir/a"]


@pytest.mark.parametrize("word", ["is not writable", "errno 1", "mountpoint_s3_fs"])
def test_a_line_in_words_that_are_not_known_says_nothing(refusals, word):
    refusals.take(1.0, APPEND.replace(word, "is otherwise"))
    assert refusals.found == {}


@given(st.text())
def test_no_text_makes_it_fail(text):
    refusals = Refusals()
    for start in ("", "open{req=1 ino=2}: mountpoint_s3_fs::fuse: open failed with errno 1: "):
        refusals.take(1.0, start + text)
    refusals.copy()
