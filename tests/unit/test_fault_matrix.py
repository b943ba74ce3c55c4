"""The fault matrix of tests/README.md is what the tests' marks say."""

from __future__ import annotations

import faults


def test_it_is_up_to_date():
    readme = faults.README.read_text()
    assert faults.BEGIN in readme
    assert faults.renewed(readme) == readme, "Run: python tests/faults.py --write"


def test_every_number_of_a_mark_is_a_fault():
    assert set(faults.collect()) <= set(faults.FAULTS)


def test_what_a_test_covers_is_counted():
    assert faults.collect()[8]["fuse/test_hanging.py"] >= 2
