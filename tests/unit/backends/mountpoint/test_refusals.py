"""What is read from Mountpoint's log of refusals. The lines are real ones, of 1.24."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.backends.mountpoint.refusals import Refusals

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
SIZE = (
    "setattr{req=46 ino=5 pid=6767}: mountpoint_s3_fs::fs: fs:setattr with ino 5 flags None atime "
    "None mtime None size Some(4)"
)
FIRST = "write{req=42 ino=5 fh=4 offset=0 length=10 pid=6767}: mountpoint_s3_fs::fuse: New request"
OPENED = (
    'open{req=12 ino=5 pid=6767 name="there.txt"}:head_object{id=7 bucket="bkt" '
    'key="run/old/there.txt"}: mountpoint_s3_client::s3_crt_client::head_object: new request'
)
LOOKED_UP = (
    'lookup{req=32 ino=4 name="a" pid=6767}:head_object{id=15 bucket="bkt" key="run/n/a"}: '
    "mountpoint_s3_client::s3_crt_client::head_object: new request"
)
RENAME = (
    'rename{req=9 parent=4 name="a" newparent=4 newname="b" pid=6767}: mountpoint_s3_fs::fuse: '
    "rename failed with errno 38: not supported"
)

# The moment that TIMES sets.
TOUCHED = datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC).timestamp()


@pytest.fixture
def refusals() -> Refusals:
    return Refusals("run/")


def test_an_upload_makes_it_good_if_it_began_later(refusals):
    refusals.take(10.0, APPEND)
    refusals.stored("run/dir/a", 9.0, 1, "", 11.0)
    assert list(refusals.found) == ["dir/a"]
    refusals.stored("run/dir/a", 12.0, 1, "", 13.0)
    assert refusals.found == {}


def test_an_upload_is_as_old_as_the_open_of_what_it_uploads(refusals):
    made = 'open{req=30 ino=5 pid=6767 name="there.txt"}: mountpoint_s3_fs::superblock: '
    made += "new Write file handle created"
    refused = (
        APPEND.replace("ino=3", "ino=5")
        .replace("inode 3", "inode 5")
        .replace("dir/a", "old/there.txt")
    )
    refusals.take(1.0, OPENED)
    refusals.take(1.1, made)
    refusals.take(1.2, refused)
    refusals.stored("run/old/there.txt", 1.3, 10, STORED, 1.4)
    assert list(refusals.found) == ["old/there.txt"], "its first write came after the refusal"
    refusals.take(2.0, made)
    refusals.stored("run/old/there.txt", 2.1, 10, STORED, 2.2)
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


@pytest.mark.parametrize("order", ["appends, touches", "touches, appends"])
def test_a_touch_excuses_what_it_opened_itself_and_nothing_else(refusals, order):
    # A touch of a file that is there opens it, and is refused; then, or before that, it sets times.
    touch = (APPEND, TIMES) if order.startswith("appends") else (TIMES, APPEND)
    lines = (APPEND, *touch) if order.startswith("appends") else (*touch, APPEND)
    for at, line in enumerate(lines):
        refusals.take(TOUCHED + at / 1000, line)
    assert list(refusals.found) == ["dir/a"]


@pytest.mark.parametrize(
    ("lines", "size", "lost"),
    [
        ((FIRST, SIZE), 10, True),
        ((SIZE, FIRST), 10, False),
        ((FIRST, SIZE), 4, False),
        ((SIZE, FIRST), 3, True),
        ((FIRST, SIZE, SIZE.replace("Some(4)", "Some(10)")), 10, True),
        ((FIRST, SIZE.replace("Some(4)", "Some(0)")), 10, True),
        ((SIZE.replace("Some(4)", "Some(0)"), FIRST), 10, False),
    ],
)
def test_a_size_that_was_set_and_is_not_what_the_store_has(refusals, lines, size, lost):
    for line in lines:
        refusals.take(1.0, line)
    refusals.stored("run/old/there.txt", 0.5, size, STORED, 2.0)
    assert list(refusals.found) == (["old/there.txt"] if lost else [])


def test_a_path_is_known_by_what_the_store_was_asked_for(refusals):
    refusals.take(1.0, OPENED)
    refusals.take(2.0, WRITE)
    refusals.take(3.0, LOOKED_UP)
    refusals.take(4.0, RENAME)
    assert list(refusals.found) == ["old/there.txt", "n/b"]
    assert refusals.found["n/b"].source == "n/a"


def test_what_is_written_to_a_file_that_was_removed_is_not_waited_for(refusals):
    refusals.take(1.0, OPENED)
    refusals.removed("run/old/there.txt")
    refusals.take(2.0, WRITE)
    assert refusals.found == {}
    # One that was renamed in the store is another matter, also when its first name is removed.
    refusals.take(3.0, OPENED.replace("ino=5", "ino=6"))
    refusals.renamed("run/old/there.txt", "run/new.txt")
    refusals.removed("run/old/there.txt")
    refusals.take(4.0, WRITE.replace("ino=5", "ino=6"))
    assert list(refusals.found) == ["new.txt"]


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
