"""What is done about a mount, and how long a repair pauses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.supervision.health import Health
from mountkit.supervision.restart_policy import (
    FIRST_PAUSE_SECONDS,
    FLAPPING_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Action,
    decide,
    pause_before,
)

COUNTS = st.integers(0, 50)
SERVED = st.floats(0, 1e6)
JITTER = st.floats(0, 1)


class TestDecide:
    @pytest.mark.parametrize(
        ("found", "stop_asked", "failures", "action"),
        [
            (Health.WELL, False, 0, Action.STAY),
            (Health.SLOW, False, 0, Action.STAY),
            (Health.BROKEN, False, 0, Action.REMOUNT),
            (Health.BROKEN, False, 2, Action.REMOUNT),
            (Health.FOREIGN, False, 2, Action.WAIT),
            (Health.BROKEN, False, 3, Action.GIVE_UP),
            (Health.FOREIGN, False, 4, Action.WAIT),
            (Health.FOREIGN, True, 4, Action.STOP),
            (Health.WELL, True, 0, Action.STOP),
            (Health.BROKEN, True, 9, Action.STOP),
        ],
    )
    def test_each_case(self, found, stop_asked, failures, action):
        assert decide(found, failures, 3, stop_asked=stop_asked) is action

    @given(st.sampled_from([Health.WELL, Health.SLOW]), COUNTS, st.integers(1, 50))
    def test_a_mount_that_serves_is_never_touched(self, found, failures, attempts):
        assert decide(found, failures, attempts, stop_asked=False) is Action.STAY

    @pytest.mark.fault(9)
    @given(COUNTS, st.integers(1, 50))
    def test_one_below_a_strangers_is_not_touched_either(self, failures, attempts):
        # Its daemon is well, and would take the stranger's mount away at its end.
        assert decide(Health.FOREIGN, failures, attempts, stop_asked=False) is Action.WAIT

    @given(COUNTS, st.integers(1, 50))
    def test_a_lost_one_is_remounted_until_the_attempts_are_used_up(self, failures, attempts):
        expected = Action.REMOUNT if failures < attempts else Action.GIVE_UP
        assert decide(Health.BROKEN, failures, attempts, stop_asked=False) is expected


class TestPause:
    def test_a_mount_that_served_well_is_repaired_at_once(self):
        assert pause_before(0, FLAPPING_SECONDS, 0.5) == 0.0

    @given(JITTER, st.floats(0, FLAPPING_SECONDS, exclude_max=True))
    def test_one_that_died_at_once_is_not(self, jitter, served):
        assert pause_before(0, served, jitter) >= FIRST_PAUSE_SECONDS / 2

    @given(st.integers(1, 1000), SERVED, JITTER)
    def test_it_has_an_end(self, failures, served, jitter):
        assert 0 < pause_before(failures, served, jitter) <= LONGEST_PAUSE_SECONDS

    def test_even_after_a_day_of_failures(self):
        assert pause_before(3000, 0.0, 1.0) == LONGEST_PAUSE_SECONDS

    @given(COUNTS, SERVED, JITTER)
    def test_it_never_gets_shorter(self, failures, served, jitter):
        assert pause_before(failures, served, jitter) <= pause_before(failures + 1, served, jitter)

    def test_it_doubles(self):
        pauses = [pause_before(failures, 0.0, 1.0) for failures in range(1, 9)]
        assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]

    @given(st.integers(1, 50), SERVED)
    def test_machines_that_lost_the_same_store_do_not_return_together(self, failures, served):
        assert pause_before(failures, served, 0.0) * 2 == pause_before(failures, served, 1.0)
