"""Which ranks share a mount, and which cannot save together."""

from __future__ import annotations

import pytest

from mountkit.errors import ConfigurationError
from mountkit.training.rank_places import Place, layout

URL = "s3://bucket/run"


def place(node: str, *, saves: bool = False, url: str = URL, **more) -> Place:
    return Place((node,) if node else (), url, saves, **more)


def test_ranks_of_one_mount_are_a_node_wherever_they_stand():
    found = layout([place("a", saves=True), place("b"), place("a"), place("b")], 3)
    assert found.nodes == ((0, 2), (1, 3))
    assert (found.rank, found.first, found.leads) == (3, False, False)


def test_without_any_mount_there_is_nothing_to_agree_on():
    assert layout([place(""), place("")], 0) is None


@pytest.mark.fault(27)
def test_a_rank_without_a_mount_is_named():
    with pytest.raises(ConfigurationError, match="none on rank 1 and 2"):
        layout([place("a", saves=True), place(""), place("")], 0)


@pytest.mark.fault(28)
def test_several_that_write_the_whole_checkpoint_are_refused():
    with pytest.raises(ConfigurationError, match="Rank 0 and 2") as caught:
        layout([place("a", saves=True), place("a"), place("b", saves=True), place("b")], 1)
    assert "save_on_each_node=False" in caught.value.hint


@pytest.mark.fault(28)
def test_so_are_they_on_one_mount():
    with pytest.raises(ConfigurationError, match="save_on_each_node"):
        layout([place("a", saves=True), place("a", saves=True)], 1)


def test_two_places_and_two_versions_are_refused():
    with pytest.raises(ConfigurationError, match="s3://bucket/other"):
        layout([place("a", saves=True), place("b", url="s3://bucket/other")], 0)
    with pytest.raises(ConfigurationError, match=r"0\.0\.1"):
        layout([place("a", saves=True), place("b", version="0.0.1")], 0)
