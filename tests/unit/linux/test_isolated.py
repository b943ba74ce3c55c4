"""Something done in a process of its own."""

from __future__ import annotations

import os
import sys
import time

import pytest

from mountkit.errors import MountUnavailableError, NotDurableError, PermissionDeniedError, Unproven
from mountkit.linux.isolated import run_isolated


def test_what_it_returns_comes_back_and_nothing_else_stays():
    def work():
        sys.modules["only_there"] = None
        return os.getpid(), ("checkpoint-1", "checkpoint-2"), "x" * 1_000_000

    pid, names, long = run_isolated(work, 30.0)
    assert pid != os.getpid()
    assert names == ("checkpoint-1", "checkpoint-2")
    assert len(long) == 1_000_000
    assert "only_there" not in sys.modules


def test_an_error_of_ours_is_raised_here():
    def work():
        raise PermissionDeniedError("no", hint="ask")

    with pytest.raises(PermissionDeniedError) as caught:
        run_isolated(work, 30.0)
    assert (caught.value.message, caught.value.hint) == ("no", "ask")


def test_with_all_that_it_carries():
    def work():
        raise NotDurableError("no", unproven=(Unproven("a", 1, "b"),))

    with pytest.raises(NotDurableError) as caught:
        run_isolated(work, 30.0)
    assert caught.value.unproven == (Unproven("a", 1, "b"),)


def test_one_that_takes_too_long_is_ended():
    with pytest.raises(MountUnavailableError, match="within 0 s"):
        run_isolated(lambda: time.sleep(600), 0.05)


def test_an_error_that_is_not_ours_is_told_as_what_it_is():
    def work():
        raise ValueError("Invalid endpoint: http://a_b")

    with pytest.raises(RuntimeError) as caught:
        run_isolated(work, 30.0)
    assert "ValueError: Invalid endpoint: http://a_b" in str(caught.value)
    # With where it was raised, which is in the child.
    assert "in work" in str(caught.value.__cause__)


def test_so_is_one_of_ours_that_cannot_be_carried():
    class OursHereError(NotDurableError):
        """Nobody else can load it."""

    def work():
        raise OursHereError("not yet")

    with pytest.raises(RuntimeError, match="OursHereError: not yet"):
        run_isolated(work, 30.0)


def test_so_is_an_answer_that_cannot_be_carried():
    with pytest.raises(RuntimeError, match="lambda"):
        run_isolated(lambda: lambda: None, 30.0)


def test_one_that_ends_without_a_word():
    with pytest.raises(MountUnavailableError, match="without a word") as caught:
        run_isolated(lambda: os._exit(0), 30.0)
    assert "within" not in caught.value.message
