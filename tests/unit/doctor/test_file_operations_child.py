"""The trial of file operations: on a plain directory, with calls that fail, and with a hang."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mountkit.backends.file_operations import NAMES, OPERATIONS
from mountkit.doctor import file_operations, file_operations_child
from mountkit.linux.helper import Ended

ALL = tuple(operation.name for operation in OPERATIONS)


def run(directory: Path, *names: str) -> dict[str, dict]:
    """The trial as a program; what it printed, by operation."""
    answer = subprocess.run(
        [sys.executable, "-I", "-S", str(file_operations.SCRIPT), str(directory), *names],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert answer.stderr == ""
    *told, end = map(json.loads, answer.stdout.splitlines())
    assert end == {"left": []}
    return {found["operation"]: found for found in told}


class TestProgram:
    def test_it_knows_every_operation_there_is(self):
        assert set(file_operations_child.OPERATIONS) == NAMES

    def test_on_a_plain_directory_everything_works(self, tmp_path):
        told = run(tmp_path / "place")
        assert list(told) == list(ALL)
        assert [found for found in told.values() if not found["works"]] == []
        assert list(tmp_path.iterdir()) == [], "it left something behind"

    def test_only_what_was_asked_for(self, tmp_path):
        assert list(run(tmp_path / "place", "chmod", "mkdir")) == ["chmod", "mkdir"]

    def test_where_no_directory_can_be_made_the_others_have_their_turn(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "mkdir", refuse)
        lines: list[str] = []
        monkeypatch.setattr("builtins.print", lambda line, **_: lines.append(line))
        file_operations_child.attempt_all(str(tmp_path / "place"), ALL)
        told = {found.get("operation"): found for found in map(json.loads, lines)}
        assert told["mkdir"]["errno"] == errno.EPERM
        assert [name for name in ALL if not told[name]["works"]] == ["mkdir", "rmtree"]
        assert list(tmp_path.iterdir()) == []

    def test_leave_and_remove(self, tmp_path):
        place = tmp_path / "place"
        assert file_operations.leave(str(place), 10) == ""
        assert (place / file_operations_child.ARRIVAL).read_bytes() == file_operations_child.BODY
        assert file_operations.remove(str(place), 10) == ""
        assert not place.exists()
        assert file_operations.remove(str(place), 10) == "", "what is gone already is no error"

    def test_leave_says_why_it_cannot(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        assert "NotADirectoryError" in file_operations.leave(str(tmp_path / "file" / "place"), 10)

    def test_remove_names_what_stays(self, tmp_path):
        (tmp_path / "place" / "deep" / "deeper").mkdir(parents=True)
        assert "cannot be removed" in file_operations.remove(str(tmp_path / "place"), 10)


class TestFailures:
    """Each call that may fail, failed by hand."""

    @pytest.fixture
    def hands(self, tmp_path) -> file_operations_child.Hands:
        return file_operations_child.Hands(f"{tmp_path}/")

    @pytest.mark.parametrize(
        ("operation", "call", "named"),
        [
            ("mkdir", "mkdir", "mkdir"),
            ("fsync", "fsync", "fsync"),
            ("rename", "rename", "rename"),
            ("chmod", "chmod", "chmod"),
            ("unlink", "unlink", "unlink"),
            ("seek", "lseek", "lseek"),
            ("write", "close", "close"),
            ("write", "write", "write"),
            ("append", "open", "open"),
        ],
    )
    def test_the_call_and_its_error_are_named(self, hands, monkeypatch, operation, call, named):
        def refuse(*_, **__):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, call, refuse)
        found = file_operations_child.attempt(hands, operation)
        assert found == {
            "operation": operation,
            "works": False,
            "errno": errno.EIO,
            "call": named,
            "problem": "Input/output error",
        }

    def test_a_rename_that_says_yes_and_makes_an_empty_file(self, hands, monkeypatch):
        real = os.rename
        monkeypatch.setattr(os, "rename", lambda a, b: (real(a, b), Path(b).write_bytes(b"")))
        found = file_operations_child.attempt(hands, "rename")
        assert not found["works"]
        assert found["call"] == "reading it back"
        assert "0 bytes came back" in found["problem"]

    def test_a_removal_that_says_yes_and_does_nothing(self, hands, monkeypatch):
        monkeypatch.setattr(os, "unlink", lambda _: None)
        assert (
            file_operations_child.attempt(hands, "unlink")["problem"] == "the file is still there"
        )

    def test_a_write_that_loses_the_end(self, hands, monkeypatch):
        monkeypatch.setattr(os, "write", lambda _, data: len(data))
        assert "came back" in file_operations_child.attempt(hands, "append")["problem"]

    def test_what_cannot_be_removed_is_told(self, tmp_path, monkeypatch):
        (tmp_path / "stays").mkdir()
        (tmp_path / "stays" / "inside").touch()
        assert file_operations_child.remove([str(tmp_path / "stays"), str(tmp_path / "gone")]) == [
            str(tmp_path / "stays")
        ]


def line(operation: str, **fields) -> str:
    content = {"operation": operation, "works": True, "errno": 0, "call": "", "problem": ""}
    return json.dumps({**content, **fields})


class TestReading:
    def test_all_of_it(self):
        out = "\n".join([line("mkdir"), line("write"), '{"left": ["/mnt/x"]}'])
        found = file_operations.read(Ended(0, out.encode(), ""), ["mkdir", "write"], 9)
        assert [result.works for result in found.results] == [True, True]
        assert found.left == ("/mnt/x",)

    def test_a_failure_has_its_call_and_number(self):
        out = line("write", works=False, errno=errno.EIO, call="close", problem="bad")
        (result,) = file_operations.read(Ended(0, out.encode(), ""), ["write"], 9).results
        assert (result.errno, result.problem, result.tried) == (errno.EIO, "close: EIO, bad", True)

    def test_the_first_without_an_answer_is_the_one_that_hung(self):
        ended = Ended(None, (line("mkdir") + '\n{"operation": "wri').encode(), "")
        mkdir, write, fsync = file_operations.read(ended, ["mkdir", "write", "fsync"], 9).results
        assert mkdir.works
        assert (write.errno, write.tried) == (errno.ETIMEDOUT, True)
        assert "9 s" in write.problem
        assert (fsync.works, fsync.tried) == (False, False)

    def test_a_helper_that_breaks_says_so(self):
        (result,) = file_operations.read(Ended(1, b"", "MemoryError"), ["mkdir"], 9).results
        assert result.problem == "MemoryError"
        (result,) = file_operations.read(Ended(-9, b"", ""), ["mkdir"], 9).results
        assert "-9" in result.problem
        (result,) = file_operations.read(Ended(0, b"", ""), ["mkdir"], 9).results
        assert not result.works


class TestHang:
    @pytest.fixture
    def stuck(self, tmp_path, monkeypatch) -> Path:
        """A trial that gets as far as mkdir, ignores SIGTERM, and has a child."""
        script = tmp_path / "stuck.py"
        script.write_text(
            "import os, signal, sys, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            f"print({line('mkdir')!r}, flush=True)\n"
            "child = os.fork()\n"
            "if child: open(sys.argv[1], 'w').write(f'{os.getpid()} {child}')\n"
            "time.sleep(600)\n"
        )
        monkeypatch.setattr(file_operations, "SCRIPT", script)
        return tmp_path / "pids"

    def test_it_is_killed_with_its_child_and_what_it_said_counts(self, stuck):
        found = file_operations.attempt(str(stuck), ["mkdir", "write", "fsync"], 1.0)
        mkdir, write, fsync = found.results
        assert mkdir.works
        assert write.errno == errno.ETIMEDOUT
        assert not fsync.tried
        pids = [int(pid) for pid in stuck.read_text().split()]
        _, alive = psutil.wait_procs(
            [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=5
        )
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []

    def test_leave_and_remove_are_bounded_too(self, stuck):
        assert "no answer within 0.5 s" in file_operations.leave(str(stuck), 0.5)
        assert "no answer within 0.5 s" in file_operations.remove(str(stuck), 0.5)

    def test_an_interrupt_leaves_no_helper_behind(self, stuck, monkeypatch):
        def interrupt(self, timeout=None):
            deadline = time.monotonic() + 10
            while not (stuck.exists() and stuck.read_text()):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(subprocess.Popen, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            file_operations.attempt(str(stuck), ["mkdir"], 60)
        pid = int(stuck.read_text().split()[0])
        assert not psutil.pid_exists(pid)
