"""Which checkpoints belong to the training that saved last."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.checkpoints.lineage import Clock, after, descent

BEGAN = datetime(2025, 1, 2, tzinfo=UTC)


def saved(*steps: int) -> dict[int, datetime | None]:
    """Checkpoints in the order in which they were saved; at the same step the later one stays."""
    return {step: BEGAN + timedelta(minutes=count) for count, step in enumerate(steps)}


@pytest.mark.fault(48)
@pytest.mark.parametrize(
    ("order", "line"),
    [
        ((), ()),
        ((2, 4, 6), (6, 4, 2)),
        # From the start, below an older and longer one.
        ((2, 4, 6, 8, 10, 2, 4, 6), (6, 4, 2)),
        # Resumed from the middle: what led to it belongs to it, the branch that was left does not.
        ((2, 4, 6, 8, 10, 6), (6, 4, 2)),
        ((2, 4, 6, 8, 10, 5), (5, 4, 2)),
        # Of two that were left, neither comes back.
        ((2, 10, 4, 8, 6), (6, 4, 2)),
        ((10, 2, 12), (12, 2)),
    ],
)
def test_the_newest_training_and_what_it_descends_from(order, line):
    assert descent(saved(*order)) == line


@pytest.mark.fault(48)
@pytest.mark.parametrize(
    ("order", "end", "line"),
    [
        ((2, 4, 6), 0, ()),
        ((2, 4, 6), 6, (6, 4, 2)),
        ((2, 4, 6, 8, 10), 4, (4, 2)),
        # What was saved after the one it is resumed from is another training's, though lower.
        ((2, 4, 6, 8, 10, 4, 6), 8, (8, 2)),
        # Resumed from a copy elsewhere.
        ((2, 4, 6), 5, (4, 2)),
        ((2, 4, 6), 9, (6, 4, 2)),
    ],
)
def test_what_a_training_that_goes_on_descends_from(order, end, line):
    assert descent(saved(*order), end) == line


def test_those_of_an_older_mountkit_go_by_their_step_and_are_the_oldest():
    assert descent({2: None, 10: None, 4: None}) == (10, 4, 2)
    assert descent({2: None, 10: None, **saved(4)}) == (4, 2)
    assert descent({2: None, 10: None, **saved(12)}) == (12, 10, 2)


@given(st.lists(st.integers(1, 30)), st.none() | st.integers(0, 30))
def test_each_step_is_lower_and_was_saved_earlier_than_the_one_before(order, end):
    there = saved(*order)
    line = descent(there, end)
    assert list(line) == sorted(line, reverse=True)
    times = [there[step] for step in line]
    assert times == sorted(times, reverse=True)
    if order and end is None:
        assert line[0] == order[-1]
    if end is not None:
        assert all(step <= end for step in line)


@pytest.mark.fault(35)
@given(st.floats(-5000, 5000), st.lists(st.floats(0, 1000), min_size=2))
def test_a_run_whose_clock_is_behind_saves_after_all_that_it_finds_in_its_own_order(skew, seconds):
    began = BEGAN.timestamp()
    others = [BEGAN + timedelta(seconds=skew), None]
    moments = sorted(began + each for each in seconds)
    stamps = [after(moment, began, others) for moment in moments]
    assert stamps == sorted(stamps)
    assert all(stamp > others[0] or skew < 0 for stamp in stamps)


def test_the_clock_of_a_training():
    ahead = datetime.now(UTC) + timedelta(hours=1)
    clock = Clock([ahead, None])
    assert ahead < clock.now() < clock.now()
    began = datetime.now(UTC)
    assert began <= Clock([]).now() < ahead
