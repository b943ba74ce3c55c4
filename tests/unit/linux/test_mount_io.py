"""Is the mount alive? Never a wait without an end."""

from __future__ import annotations

import errno
import subprocess
import sys

from mountkit.linux import mount_io


def test_a_directory_that_answers_is_alive(tmp_path):
    answer = mount_io.ask(str(tmp_path), 10.0)
    assert answer.alive
    assert str(answer) == "alive"
    assert 0 < answer.seconds < 10


def test_the_errno_comes_through(tmp_path):
    answer = mount_io.ask(str(tmp_path / "none"), 10.0)
    assert answer.error == errno.ENOENT
    assert not answer.alive
    assert str(answer) == "No such file or directory"


def test_no_answer_in_time_counts_as_hung(tmp_path):
    answer = mount_io.ask(str(tmp_path), 0.0)
    assert answer.error == errno.ETIMEDOUT
    assert not answer.alive
    assert str(answer) == "Connection timed out"


def test_a_strange_name_is_one_argument(tmp_path):
    odd = tmp_path / "-c import os; os.abort()\n'ü"
    odd.mkdir()
    assert mount_io.ask(str(odd), 10.0).alive


def test_what_a_mount_does_not_have(tmp_path):
    (tmp_path / "d").mkdir()
    for name in ("there", "d/ü"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("nowhere")
    paths = ["there", "d/ü", "link", "d/gone", "none/x", "there/x", "ü"]
    assert mount_io.missing(str(tmp_path), paths, 10.0) == {"d/gone", "none/x", "ü"}
    assert mount_io.missing(str(tmp_path), ["there"], 10.0) == frozenset()


def test_of_one_that_gives_no_answer_nothing_is_known(tmp_path):
    assert mount_io.missing(str(tmp_path), ["none"], 0.0) == frozenset()


def test_where_a_path_leads(tmp_path):
    (tmp_path / "run ü").mkdir()
    (tmp_path / "current").symlink_to("run ü")
    (tmp_path / "loop").symlink_to("loop")
    there = str(tmp_path)
    assert mount_io.real(there, "current/latest", 10.0) == f"{there}/run ü/latest"
    assert mount_io.real(there, "", 10.0) == there
    assert mount_io.real(there, "loop", 10.0) == f"{there}/loop"
    assert mount_io.real(there, "current", 0.0) == ""


def test_how_far_a_clock_is_ahead_has_nothing_of_the_time_that_it_takes_to_ask(tmp_path):
    told = [mount_io.clock_ahead(str(tmp_path), f"asked-{number}", 30.0) for number in range(5)]
    assert {problem for problem, _ in told} == {""}
    # The kernel dates by ticks of up to 10 ms; the start of a Python takes longer.
    assert min(abs(ahead) for _, ahead in told) < 0.012
    assert list(tmp_path.iterdir()) == []


def test_nor_of_the_wait_for_a_server(tmp_path):
    slow = "import os, time; write = os.write; os.write = lambda *a: (time.sleep(0.5), write(*a))\n"
    words = [sys.executable, "-c", slow + mount_io.CLOCK, str(tmp_path), "asked"]
    told = subprocess.run(words, capture_output=True, check=True, timeout=30, text=True)
    assert abs(float(told.stdout)) < 0.012


def test_a_clock_that_is_another_is_told(tmp_path):
    slow = "import time; real = time.time; time.time = lambda: real() - 3600\n"
    words = [sys.executable, "-c", slow + mount_io.CLOCK, str(tmp_path), "asked"]
    told = subprocess.run(words, capture_output=True, check=True, timeout=30, text=True)
    assert 3599 < float(told.stdout) < 3601
