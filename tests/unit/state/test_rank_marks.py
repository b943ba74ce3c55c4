"""Which ranks have said that their save is over."""

from __future__ import annotations

import pytest

from mountkit.errors import ConfigurationError
from mountkit.state.mount_directory import StateDirectory
from mountkit.state.rank_marks import SAVE_NAME, RankMarks

TOP = "run/checkpoint-4"


@pytest.fixture
def marks(tmp_path) -> RankMarks:
    return RankMarks(tmp_path)


def test_a_save_is_whole_once_every_rank_is_done(marks):
    assert marks.read(TOP) is None
    marks.begin(TOP, "ab-1", [0, 1], alone=True)
    marks.done(TOP, "ab-1", 1)
    found = marks.read(TOP)
    assert (found.missing, found.whole) == ((0,), False)
    marks.done(TOP, "ab-1", 0)
    assert marks.read(TOP).whole
    assert marks.read("run/checkpoint-5") is None


def test_what_other_nodes_save_is_not_known_here(marks):
    marks.begin(TOP, "ab-1", [0], alone=False)
    marks.done(TOP, "ab-1", 0)
    found = marks.read(TOP)
    assert (found.missing, found.whole) == ((), False)


def test_a_save_that_is_made_again_asks_everybody_again(marks):
    marks.begin(TOP, "ab-1", [0], alone=True)
    marks.done(TOP, "ab-1", 0)
    marks.begin(TOP, "ab-2", [0], alone=True)
    assert marks.read(TOP).missing == (0,)


def test_a_name_may_be_as_long_as_a_path(marks):
    long = "/".join(["x" * 200] * 10)
    marks.begin(long, "ab-1", [0], alone=True)
    assert marks.read(long).missing == (0,)
    marks.forget(long)
    assert marks.read(long) is None


def test_what_cannot_be_read_is_named(marks, tmp_path):
    marks.begin(TOP, "ab-1", [0], alone=True)
    [path] = tmp_path.rglob(SAVE_NAME)
    path.write_text('{"save": 1}')
    with pytest.raises(ConfigurationError, match=SAVE_NAME):
        marks.read(TOP)


def test_the_next_mount_forgets_them_unless_it_takes_over(tmp_path):
    directory = StateDirectory(tmp_path)
    directory.ranks.begin(TOP, "ab-1", [0], alone=True)
    directory.clear(unproven=True)
    directory.begin()
    assert directory.ranks.read(TOP) is not None
    directory.clear()
    directory.begin()
    assert directory.ranks.read(TOP) is None
