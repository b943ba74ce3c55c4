"""What is the matter with a mount, from what is seen of it."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.supervision.health import (
    BROKEN,
    PATIENCE,
    Cause,
    Health,
    HealthLimits,
    Observation,
    judge,
)

LIMITS = HealthLimits(interval=1.0, probe=5.0, hang=60.0)
FINE = Observation(entry="it", ours=True)
SECONDS = st.floats(0, 1e5)


@pytest.mark.parametrize(
    ("changes", "health", "cause"),
    [
        ({}, Health.WELL, Cause.NONE),
        ({"ended": "rclone ended"}, Health.BROKEN, Cause.DIED),
        ({"ended": "rclone ended", "aborted_by_helper": 12.0}, Health.BROKEN, Cause.HUNG),
        ({"entry": "", "ours": False}, Health.BROKEN, Cause.UNMOUNTED),
        ({"entry": "tmpfs", "ours": False}, Health.FOREIGN, Cause.UNMOUNTED),
        ({"error": errno.ENOTCONN}, Health.BROKEN, Cause.DIED),
        ({"error": errno.EACCES}, Health.WELL, Cause.NONE),
        ({"unanswered": 4.9, "process_state": "T"}, Health.WELL, Cause.NONE),
        ({"unanswered": 5.0, "process_state": "T"}, Health.BROKEN, Cause.HUNG),
        ({"unanswered": 5.0, "process_state": "t"}, Health.BROKEN, Cause.HUNG),
        ({"unanswered": 5.0}, Health.SLOW, Cause.NONE),
        # Nobody but its own server could end that.
        ({"unanswered": 1e5, "served": False}, Health.SLOW, Cause.NONE),
        ({"unanswered": 59.0, "idle": 59.0}, Health.SLOW, Cause.NONE),
        ({"unanswered": 60.0, "idle": 60.0}, Health.BROKEN, Cause.HUNG),
        ({"unanswered": 60.0, "idle": 60.0, "process_state": "D"}, Health.BROKEN, Cause.HUNG),
        # A store that is slow: it works, however rarely.
        ({"unanswered": 200.0, "idle": 40.0}, Health.SLOW, Cause.NONE),
        ({"unanswered": PATIENCE * 60.0, "idle": 1.0}, Health.BROKEN, Cause.HUNG),
        # The kernel waits for nothing: it is the helper who is silent.
        ({"unanswered": 400.0, "idle": 400.0, "waiting": 0}, Health.SLOW, Cause.NONE),
        ({"unanswered": 400.0, "idle": 400.0, "waiting": 1}, Health.BROKEN, Cause.HUNG),
        ({"unanswered": 5.0, "process_state": "T", "waiting": 0}, Health.BROKEN, Cause.HUNG),
    ],
)
@pytest.mark.fault(6, 8, 9, 33)
def test_each_case(changes, health, cause):
    verdict = judge(replace(FINE, **changes), LIMITS)
    assert (verdict.health, verdict.cause) == (health, cause)
    assert bool(verdict.reason) is (health is not Health.WELL)


@given(st.sampled_from(sorted(BROKEN)))
def test_every_errno_of_a_broken_mount(number):
    assert judge(replace(FINE, error=number), LIMITS).health is Health.BROKEN


@pytest.mark.fault(9)
@given(SECONDS, SECONDS, st.sampled_from("RSDTtXZ"))
def test_what_is_not_ours_is_never_taken_for_ours(unanswered, idle, process_state):
    observation = Observation("", "tmpfs", False, 0, unanswered, process_state, idle)
    assert judge(observation, LIMITS).health is Health.FOREIGN


@given(SECONDS, SECONDS)
def test_a_mount_that_answers_in_time_is_well(unanswered, idle):
    observation = replace(FINE, unanswered=min(unanswered, 4.99), idle=idle)
    assert judge(observation, LIMITS).health is Health.WELL


@given(SECONDS, SECONDS)
def test_more_silence_never_makes_it_better(unanswered, more):
    order = [Health.WELL, Health.SLOW, Health.BROKEN]
    one, other = (
        order.index(judge(replace(FINE, unanswered=seconds, idle=seconds), LIMITS).health)
        for seconds in (unanswered, unanswered + more)
    )
    assert one <= other


def test_the_requests_that_wait_are_told():
    observation = replace(FINE, unanswered=5.0, process_state="T", waiting=3)
    assert "3 requests wait" in judge(observation, LIMITS).reason
