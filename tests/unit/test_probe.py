"""Is the mount alive? Three outcomes, and never a wait without an end."""

from __future__ import annotations

import errno
import time

import pytest

from mountkit import probe
from mountkit.probe import Answer


def test_a_directory_that_answers_is_alive(tmp_path):
    answer = probe.ask(str(tmp_path), 10.0)
    assert answer.alive
    assert not answer.broken
    assert str(answer) == "alive"
    assert 0 < answer.seconds < 10


def test_the_errno_comes_through(tmp_path):
    answer = probe.ask(str(tmp_path / "none"), 10.0)
    assert answer.error == errno.ENOENT
    assert not answer.alive
    assert not answer.broken
    assert str(answer) == "No such file or directory"


def test_no_answer_in_time_counts_as_hung(tmp_path):
    began = time.monotonic()
    answer = probe.ask(str(tmp_path), 0.0)
    assert answer.error == errno.ETIMEDOUT
    assert answer.broken
    assert time.monotonic() - began < 5


def test_a_strange_name_is_one_argument(tmp_path):
    odd = tmp_path / "-c import os; os.abort()\n'ü"
    odd.mkdir()
    assert probe.ask(str(odd), 10.0).alive


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ESTALE])
def test_what_only_a_remount_mends(number):
    assert Answer(number, 0.1).broken


@pytest.mark.parametrize("number", [0, errno.ENOENT, errno.EACCES, errno.ENOTDIR])
def test_what_a_remount_does_not_mend(number):
    assert not Answer(number, 0.1).broken
