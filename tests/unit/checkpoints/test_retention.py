"""Which checkpoints may go: pure arithmetic on steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.checkpoints.retention import retention


@pytest.mark.fault(20)
@pytest.mark.parametrize(
    ("proven", "keep", "protected", "gone"),
    [
        ([800, 900, 1000, 1100], 2, set(), (800, 900)),
        ([1100, 900, 1000, 800], 2, set(), (800, 900)),
        ([800, 900, 1000, 1100], 2, {800}, (900,)),
        ([800, 900], None, set(), ()),
        ([800, 900], 0, set(), ()),
        ([800, 900], -1, set(), ()),
        ([], 3, set(), ()),
        ([9, 10, 100], 1, set(), (9, 10)),
    ],
)
def test_retention(proven, keep, protected, gone):
    assert retention(proven, keep, protected) == gone


@pytest.mark.fault(48)
@pytest.mark.parametrize(
    ("proven", "keep", "protected", "foreign", "gone"),
    [
        # Those of others go first, as the training's own take their places.
        ([2, 8, 10], 2, {2}, {8, 10}, (8,)),
        ([2, 4, 10], 2, {4}, {10}, (10,)),
        ([2, 4, 6], 2, {6}, set(), (2,)),
        ([2, 8, 10], 1, {2}, {8, 10}, (8, 10)),
        ([2, 8, 10], None, {2}, {8, 10}, ()),
        ([2, 8, 10], 0, {2}, {8, 10}, ()),
        # Of a middle, what led to it comes before what was left.
        ([2, 4, 5, 8, 10], 3, {5, 4}, {8, 10}, (8, 10)),
        # The best one stays, whosever it is.
        ([2, 4, 8, 10], 1, {4, 8}, {8, 10}, (10, 2)),
    ],
)
def test_what_others_left_goes_first(proven, keep, protected, foreign, gone):
    assert retention(proven, keep, protected, foreign) == gone


@given(
    st.lists(st.integers(0, 200)),
    st.none() | st.integers(-3, 10),
    st.sets(st.integers(0, 200)),
)
def test_the_last_proven_and_the_protected_never_go(proven, keep, protected):
    gone = retention(proven, keep, protected)
    left = set(proven) - set(gone)
    assert set(gone) <= set(proven)
    assert not set(gone) & protected
    assert list(gone) == sorted(gone)
    if proven:
        assert max(proven) in left
    if keep is None or keep <= 0:
        assert not gone
    elif proven:
        assert len(left - protected) <= keep
        assert all(step < max(proven) for step in gone)
