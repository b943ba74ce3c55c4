"""The journal of what was written: the last word counts, and what is unclear is never "done"."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mountkit
from mountkit.state.write_journal import DOUBTFUL, JOURNAL_NAME, TORN, UNFINISHED, Journal, Written

# Surrogates stand for bytes of a file's name that are no UTF-8.
PATHS = st.text(st.characters(), min_size=1, max_size=20)
EVENTS = st.lists(
    st.tuples(PATHS, st.sampled_from(["begin", "done", "failed"]), st.integers(0, 2**40))
)


@pytest.fixture
def journal(tmp_path) -> Journal:
    return Journal(tmp_path)


def file_of(folder):
    return folder / JOURNAL_NAME


def append(folder, data: bytes) -> None:
    with file_of(folder).open("ab") as stream:
        stream.write(data)


def note(journal: Journal, path: str, kind: str, size: int = 7) -> None:
    if kind == "begin":
        journal.begin(path)
    elif kind == "done":
        journal.done(path, size, "AAAAAAAAAAA=")
    else:
        journal.failed(path, f"no room {size}")


def problems(journal: Journal) -> dict[str, str]:
    return {path: word.problem for path, word in journal.read().items()}


class TestWords:
    def test_nothing_was_written(self, journal):
        assert journal.read() == {}

    def test_a_write_from_begin_to_end(self, journal):
        before = time.time()
        journal.begin("checkpoint-1/model.safetensors")
        assert problems(journal) == {"checkpoint-1/model.safetensors": UNFINISHED}
        journal.done("checkpoint-1/model.safetensors", 123, "rosUhgp5mIg=")
        (word,) = journal.read().values()
        assert word == Written(
            "checkpoint-1/model.safetensors", 123, "rosUhgp5mIg=", word.at, problem=""
        )
        assert before <= word.at <= time.time()

    @pytest.mark.parametrize("how", ["opened", "read"])
    def test_one_that_cannot_be_read_is_named(self, journal, tmp_path, how):
        if how == "opened":
            file_of(tmp_path).mkdir()
        else:
            # Nothing is mapped at its beginning.
            file_of(tmp_path).symlink_to("/proc/self/mem")
        with pytest.raises(OSError, match=JOURNAL_NAME):
            journal.read()

    def test_a_failure_says_why(self, journal):
        journal.begin("a")
        journal.failed("a", "it could not be uploaded: access denied")
        assert problems(journal) == {"a": "it could not be uploaded: access denied"}
        journal.failed("a", "")
        assert problems(journal) == {"a": UNFINISHED}, "no reason is no success"

    def test_beginning_anew_takes_back_what_was_known(self, journal):
        note(journal, "a", "done")
        note(journal, "b", "done")
        journal.begin("a")
        assert problems(journal) == {"a": UNFINISHED, "b": ""}
        assert journal.read()["a"].size == 0
        note(journal, "a", "done", 9)
        assert journal.read()["a"].size == 9

    @given(EVENTS, st.integers(1, 5))
    def test_the_last_word_of_each_path(self, tmp_path_factory, events, every):
        journal = Journal(tmp_path_factory.mktemp("j"))
        expected = {}
        for count, (path, kind, size) in enumerate(events):
            note(journal, path, kind, size)
            expected[path] = {"begin": UNFINISHED, "done": "", "failed": f"no room {size}"}[kind]
            if count % every == 0:
                assert problems(journal) == expected
        assert problems(journal) == expected
        again = Journal(journal._file.parent)
        assert again.read() == journal.read(), "read at once or bit by bit"

    def test_what_a_caller_does_with_the_answer_is_its_own(self, journal):
        note(journal, "a", "done")
        journal.read().clear()
        assert set(journal.read()) == {"a"}


class TestFile:
    def test_it_is_private(self, journal, tmp_path):
        old = os.umask(0)
        try:
            journal.begin("a")
        finally:
            os.umask(old)
        assert stat.S_IMODE(file_of(tmp_path).stat().st_mode) == 0o600

    def test_one_that_is_removed_is_forgotten(self, journal, tmp_path):
        note(journal, "a", "done")
        journal.read()
        file_of(tmp_path).unlink()
        assert journal.read() == {}

    @pytest.mark.parametrize("length", [1, 300])
    def test_a_reader_notices_that_another_cleared_it(self, journal, tmp_path, length):
        other = Journal(tmp_path)
        note(journal, "x" * length, "begin")
        other.read()
        # Rewritten in place, the new journal has the inode of the old one.
        first = file_of(tmp_path).read_bytes()
        file_of(tmp_path).unlink(missing_ok=True)
        note(journal, "x" * length, "done")
        note(journal, "b", "done")
        second = file_of(tmp_path).read_bytes()
        assert len(second) > len(first)
        assert problems(other) == {"x" * length: "", "b": ""}

    def test_it_reads_only_what_is_new(self, journal, tmp_path):
        for number in range(1000):
            note(journal, f"a-{number}", "done")
        journal.read()
        data = file_of(tmp_path).read_bytes()
        # What was read is not looked at again, but for the first line.
        file_of(tmp_path).write_bytes(data[:200] + b"?" * (len(data) - 200))
        note(journal, "b", "done")
        assert set(problems(journal).values()) == {""}
        assert len(journal.read()) == 1001

    def test_an_append_fails_loudly(self, tmp_path):
        with pytest.raises(OSError, match="missing"):
            Journal(tmp_path / "missing").begin("a")

    def test_a_disk_that_takes_only_a_part(self, journal, tmp_path, monkeypatch):
        note(journal, "a", "done")
        note(journal, "b", "done")
        write = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2 + 15]))
        with pytest.raises(OSError, match=r"'a' counts as unfinished.*df -h"):
            note(journal, "a", "done")
        monkeypatch.undo()
        assert problems(journal) == {"a": "", "b": ""}, "a last line without its end waits"
        note(journal, "c", "done")
        assert problems(journal) == {"a": TORN, "b": "", "c": ""}


class TestUnreadable:
    def test_a_torn_last_line_is_left_for_later(self, journal, tmp_path):
        note(journal, "a", "done")
        whole = file_of(tmp_path).read_bytes()
        note(journal, "b", "done")
        longer = file_of(tmp_path).read_bytes()
        for cut in range(len(whole), len(longer) + 1):
            file_of(tmp_path).write_bytes(longer[:cut])
            expected = {"a"} if cut < len(longer) else {"a", "b"}
            assert set(Journal(tmp_path).read()) == expected
            assert set(journal.read()) <= {"a", "b"}
        assert problems(journal) == {"a": "", "b": ""}

    @pytest.mark.parametrize(
        "garbage",
        [
            b"\0\0\0\0",
            b"{",
            b"5",
            b"null",
            b"[]",
            b'"a"',
            b'{"path": "a"}',
            b'{"at": "x", "path": "a"}',
            b'{"at": 1.5, "path": 5}',
            b'{"at": 1.5, "pa',
            b'{"at": 1.5, "path": "a',
            b'{"at": 1.5, "path": "\\q", ',
            b'{"at": 1.5, "path": "\xff\xff", ',
            b'{"at": 1.2.3, "path": "a", ',
        ],
    )
    def test_a_line_about_nobody_knows_what_puts_all_before_it_in_doubt(
        self, journal, tmp_path, garbage
    ):
        note(journal, "a", "done")
        note(journal, "b", "failed")
        append(tmp_path, garbage + b"\n")
        note(journal, "c", "done")
        assert problems(journal) == {"a": DOUBTFUL, "b": "no room 7", "c": ""}
        assert journal.read()["a"].crc64nvme == ""
        note(journal, "a", "done")
        assert problems(journal)["a"] == "", "its next word is clear again"

    @pytest.mark.parametrize(
        "rest",
        [
            b"",
            b', "size": 5',
            b', "size": "5", "crc64nvme": "x"}',
            b', "size": 5, "crc64nvme": 6}',
            b', "problem": 5}',
        ],
    )
    def test_a_line_torn_behind_its_path_is_about_that_file_only(self, journal, tmp_path, rest):
        for path in ("a", 'é\n"b', "c"):
            note(journal, path, "done")
        torn = b'{"at": 1.5, "path": ' + json.dumps('é\n"b').encode() + rest
        append(tmp_path, torn + b"\n")
        assert problems(journal) == {"a": "", 'é\n"b': TORN, "c": ""}

    @pytest.mark.parametrize(
        "rest",
        [
            b', "size": 5}',
            b', "crc64nvme": "x"}',
            b', "problem": ""}',
            b', "size": 5, "crc64nvme": "x", "problem": "late"}',
        ],
    )
    def test_only_a_whole_end_is_an_end(self, journal, tmp_path, rest):
        file_of(tmp_path).write_bytes(b'{"at": 1.5, "path": "a"' + rest + b"\n")
        assert journal.read()["a"].problem in {UNFINISHED, "late"}

    @given(st.binary(max_size=80), st.integers(0, 3))
    def test_whatever_the_line_nothing_is_done_but_by_its_own_word(
        self, tmp_path_factory, garbage, where
    ):
        journal = Journal(tmp_path_factory.mktemp("j"))
        for number in range(3):
            note(journal, f"a-{number}", "done")
        lines = file_of(journal._file.parent).read_bytes().split(b"\n\n")
        lines.insert(where, garbage.replace(b"\n", b"\r") + b"\n")
        file_of(journal._file.parent).write_bytes(b"\n\n".join(lines))
        found = problems(journal)
        bad = garbage.replace(b"\n", b"\r") != b""
        for number in range(3):
            assert found[f"a-{number}"] == (DOUBTFUL if bad and number < where else "")


WRITER = """
import pathlib, sys
import mountkit
from mountkit.state.write_journal import Journal

journal = Journal(pathlib.Path(sys.argv[1]))
for number in range(200):
    journal.begin(f"{sys.argv[2]}-{number}")
    journal.done(f"{sys.argv[2]}-{number}", number, "x" * 3000)
"""


def test_lines_of_several_processes_and_threads_do_not_mix(tmp_path):
    env = {"PYTHONPATH": str(Path(mountkit.__file__).parents[1])}
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), f"p{number}"], env=env)
        for number in range(3)
    ]
    journal, ours = Journal(tmp_path), Journal(tmp_path)

    def write(name: str) -> None:
        for number in range(200):
            ours.begin(f"{name}-{number}")
            ours.done(f"{name}-{number}", number, "x" * 3000)

    threads = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    while any(process.poll() is None for process in processes):
        assert {word.problem for word in journal.read().values()} <= {"", UNFINISHED}
    for thread in threads:
        thread.join()
    assert [process.returncode for process in processes] == [0, 0, 0]
    words = journal.read()
    assert len(words) == 6 * 200
    assert all(word.problem == "" for word in words.values())
    assert words == Journal(tmp_path).read()
