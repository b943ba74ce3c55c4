"""Two nodes, each with a mount of its own, and one bucket: one manifest of what both have saved."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from support.chaos import proven_in
from support.installed import needs
from support.nodes import Nodes
from support.ranks import rank_of
from support.training import checkpoints

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

needs("transformers", "torch")


def everything_of_both(bucket: Bucket, step: int) -> bool:
    manifest = bucket.manifest(f"run/checkpoint-{step}")
    listed = {file["path"] for file in manifest["files"]} if manifest else set()
    there = set(bucket.files(f"run/checkpoint-{step}"))
    return listed == there and {"rng_state_0.pth", "rng_state_1.pth"} <= listed


@pytest.mark.fault(4, 20, 27, 31, 36)
def test_two_nodes_save_one_checkpoint_and_remove_the_older_ones(rig: Rig, bucket: Bucket) -> None:
    nodes = Nodes(rig, bucket, "first", "--steps", "6", "--limit", "1")
    answers = nodes.wait()
    story = "\n".join(map(str, answers))
    assert [answer.code for answer in answers] == [0, 0], story
    assert set(nodes.trainings[0].report["proven"]) == {"2", "4", "6"}, story
    # No receipt is left, and nothing of an older one.
    assert checkpoints(bucket) == {"checkpoint-6"}
    assert everything_of_both(bucket, 6), story
    assert all("receipt" not in path for path in bucket.everything("run"))


@pytest.mark.fault(7, 22, 27)
def test_a_node_that_dies_leaves_no_manifest_of_the_save_it_died_in(
    rig: Rig, bucket: Bucket
) -> None:
    nodes = Nodes(rig, bucket, "first", "--steps", "6", "--pause-in-save", "4")
    for job in nodes.jobs:
        rig.await_word("in-4", job)
    rank_of(nodes.jobs[1], 1).send_signal(signal.SIGKILL)
    rig.say("go-in-4")
    answers = nodes.wait()
    story = "\n".join(map(str, answers))
    assert [answer.code for answer in answers] == [1, 1], story
    assert "did not end" not in story
    assert proven_in(bucket) == [2], story
    # The same command, submitted again.
    nodes = Nodes(rig, bucket, "again", "--steps", "6")
    answers = nodes.wait()
    story = "\n".join(map(str, answers))
    assert [answer.code for answer in answers] == [0, 0], story
    assert nodes.trainings[0].report["began_at"] == 2
    assert proven_in(bucket) == [2, 4, 6], story
    assert all(everything_of_both(bucket, step) for step in (2, 4, 6)), story
