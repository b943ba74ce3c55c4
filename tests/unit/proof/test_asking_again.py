"""How long a refusal is asked about again."""

from __future__ import annotations

import pytest

from mountkit.backends.base import CacheLostError
from mountkit.errors import MountUnavailableError, PermissionDeniedError
from mountkit.proof.asking_again import Endurance, Refusals

pytestmark = pytest.mark.fault(18, 33)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refusal(may_pass: float) -> PermissionDeniedError:
    error = PermissionDeniedError("no")
    error.may_pass = may_pass
    return error


def test_one_that_is_final_by_its_nature(clock):
    assert Refusals(clock).final("x", 0.0)


def test_denied_twice_some_seconds_apart(clock):
    refusals = Refusals(clock)
    assert not refusals.final("x", 3.0)
    assert not refusals.final("x", 3.0)
    clock.now += 3.0
    assert not refusals.final("y", 3.0), "another one is refused for the first time"
    assert refusals.final("x", 3.0)


def test_what_was_not_refused_meanwhile_begins_anew(clock):
    refusals = Refusals(clock)
    refusals.final("x", 3.0)
    clock.now += 3.0
    refusals.over("x")
    assert not refusals.final("x", 3.0)


def test_a_cache_that_is_gone_is_waited_for_by_nobody(clock):
    endurance = Endurance(10.0, clock=clock)
    assert not endurance.ends(MountUnavailableError("a disk that does not answer"), 0)
    assert endurance.ends(CacheLostError("it is gone"), 0)


def test_a_store_that_is_away_is_waited_for_within_the_stall_timeout(clock):
    endurance = Endurance(60.0, clock=clock)
    away = MountUnavailableError("away")
    assert not endurance.ends(away, 0)
    clock.now += 50.0
    assert not endurance.ends(away, 1), "one was settled"
    clock.now += 50.0
    assert not endurance.ends(away, 1)
    clock.now += 11.0
    assert endurance.ends(away, 1)


def test_one_that_refuses_for_as_long_as_that_may_pass_and_no_longer_than_that(clock):
    endurance = Endurance(60.0, clock=clock)
    assert not endurance.ends(refusal(15.0), 0)
    clock.now += 14.0
    assert not endurance.ends(refusal(15.0), 0)
    # It answers otherwise in between: the refusal is another one then.
    assert not endurance.ends(MountUnavailableError("away"), 0)
    clock.now += 2.0
    assert not endurance.ends(refusal(15.0), 0)
    clock.now += 15.0
    assert endurance.ends(refusal(15.0), 0)
    assert Endurance(60.0, clock=clock).ends(refusal(0.0), 0)
