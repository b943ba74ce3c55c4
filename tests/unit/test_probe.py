"""Is the mount alive? Never a wait without an end."""

from __future__ import annotations

import errno

from mountkit import probe


def test_a_directory_that_answers_is_alive(tmp_path):
    answer = probe.ask(str(tmp_path), 10.0)
    assert answer.alive
    assert str(answer) == "alive"
    assert 0 < answer.seconds < 10


def test_the_errno_comes_through(tmp_path):
    answer = probe.ask(str(tmp_path / "none"), 10.0)
    assert answer.error == errno.ENOENT
    assert not answer.alive
    assert str(answer) == "No such file or directory"


def test_no_answer_in_time_counts_as_hung(tmp_path):
    answer = probe.ask(str(tmp_path), 0.0)
    assert answer.error == errno.ETIMEDOUT
    assert not answer.alive
    assert str(answer) == "Connection timed out"


def test_a_strange_name_is_one_argument(tmp_path):
    odd = tmp_path / "-c import os; os.abort()\n'ü"
    odd.mkdir()
    assert probe.ask(str(odd), 10.0).alive
