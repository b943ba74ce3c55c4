"""A deadline that a signal sets."""

from __future__ import annotations

import pytest

from mountkit import timing
from mountkit.errors import TimeUpError
from mountkit.timing import SHORTEST_SECONDS, WAITS, Deadline


def test_not_set_it_never_passes():
    deadline = Deadline()
    assert deadline.left is None
    assert not deadline.passed


def test_it_counts_down():
    deadline = Deadline()
    deadline.set(1000.0)
    assert 0 < deadline.left <= 1000.0
    assert not deadline.passed


def test_the_earlier_one_counts():
    deadline = Deadline()
    deadline.set(1000.0)
    deadline.set(0.0)
    deadline.set(2000.0)
    assert deadline.left == 0.0
    assert deadline.passed


def test_one_within_another_ends_with_whichever_is_earlier_and_whenever_that_is_set():
    signalled = Deadline()
    own = Deadline(within=signalled)
    assert own.left is None
    own.set(1000.0)
    assert own.left > 500.0
    signalled.set(0.0)
    assert own.passed

    own, later = Deadline(within=signalled), Deadline()
    later.set(1000.0)
    assert own.passed
    short = Deadline(within=later)
    short.set(0.0)
    assert short.passed
    assert not later.passed


def test_no_wait_takes_more_than_a_part_of_what_is_left():
    deadline = Deadline()
    assert deadline.cut(30.0) == 30.0
    deadline.set(1000.0)
    assert deadline.cut(30.0) == 30.0
    deadline.set(20.0)
    assert SHORTEST_SECONDS <= deadline.cut(30.0) <= 20.0 / WAITS
    assert deadline.cut(0.5) == 0.5
    deadline.set(0.0)
    assert deadline.cut(30.0) == SHORTEST_SECONDS


def test_whatever_reads_on_ends_with_it():
    deadline = Deadline()
    deadline.check()
    deadline.set(0.0)
    with pytest.raises(TimeUpError, match="time was up"):
        deadline.check()


class TestWaiting:
    def test_the_condition_is_asked_once_if_it_holds(self):
        asked = []
        assert timing.wait_until(lambda: not asked.append(1), 0.0)
        assert asked == [1]

    def test_it_is_asked_again_until_it_holds(self):
        answers = iter([False, False, True])
        assert timing.wait_until(lambda: next(answers), 10.0)

    def test_it_has_an_end(self):
        assert not timing.wait_until(lambda: False, 0.05)
