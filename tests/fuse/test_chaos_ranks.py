"""Two ranks, struck at random moments and started again: each checkpoint is that of both.

``MOUNTKIT_TEST_MANY=10`` strikes so often.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest

from support.chaos import QUICK, let_pass, proven_in, seeded, strike
from support.installed import needs
from support.nodes import Nodes
from support.ranks import rank_of, together
from support.training import Training

if TYPE_CHECKING:
    import random

    from support.rig import Bucket, Job, Rig

needs("transformers", "torch")

STRIKES = int(os.environ.get("MOUNTKIT_TEST_MANY") or 2)
STEPS = 16
DAEMONS = {"rclone", "mount-s3"}
# So many come to their end, at most, before they are struck often enough.
TRIES = 10 + STRIKES * 3


def strike_at(rig: Rig, job: Job, what: str, chance: random.Random) -> bool:
    """Strike a rank, the daemon, or all that the job has started; whether it was there."""
    with contextlib.suppress(psutil.NoSuchProcess, AssertionError):
        if what == "rank":
            rank = rank_of(job, chance.choice([0, 1]))
            return strike(rank, chance.choice([signal.SIGKILL, signal.SIGTERM]))
        if what == "daemon":
            return strike(rig.daemon(), chance.choice([signal.SIGKILL, signal.SIGSTOP]))
        ours = psutil.Process(job.process.pid)
        return sum(strike(each, signal.SIGKILL) for each in [ours, *ours.children(True)]) > 0
    return False


def assert_of_both(bucket: Bucket, prefix: str) -> None:
    """What is proven has the files of both ranks."""
    for step in proven_in(bucket, prefix):
        manifest = bucket.manifest(f"{prefix}/checkpoint-{step}")
        listed = {file["path"] for file in manifest["files"]}
        assert {"rng_state_0.pth", "rng_state_1.pth", "trainer_state.json"} <= listed


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.fault(6, 7, 8, 22, 27, 37)
@pytest.mark.parametrize("mode", ["ddp", "sharded"])
def test_ranks_that_are_struck_go_on_as_if_they_had_not_been(
    rig: Rig, bucket: Bucket, mode: str
) -> None:
    chance = seeded(rig.backend, mode)
    rig.settings.update(QUICK)
    options = ["--steps", str(STEPS)] + (["--fsdp", "SHARDED"] if mode == "sharded" else [])
    alone = Training(rig, "alone", rig.work / "local")
    answer = rig.start(*together(alone, *options, "--fresh", "--callback", "none")).wait()
    assert answer.code == 0, answer
    stories, struck, prefix = [], 0, "run"
    while True:
        training = Training(rig, f"try {len(stories)}")
        job = rig.begin(f"s3://{bucket.name}/{prefix}", together(training, *options), limit=200)
        if struck < STRIKES:
            with contextlib.suppress(AssertionError):
                rig.await_text("is mounted at", job)
            let_pass(chance.uniform(0, 6))
            struck += strike_at(rig, job, chance.choice(["rank", "daemon", "job"]), chance)
        answer = job.wait()
        stories.append(str(answer))
        assert "did not end" not in answer.err, answer
        assert len(stories) < TRIES, "\n".join(stories)
        assert_of_both(bucket, prefix)
        if answer.code == 0:
            if struck >= STRIKES:
                break
            # It came to its end before it was struck often enough: another one.
            prefix = f"run-{len(stories)}"
    assert max(proven_in(bucket, prefix)) == STEPS, "\n".join(stories)
    if training.report["began_at"] < STEPS:
        assert training.report["losses"] == alone.report["losses"]


def strike_a_node(nodes: Nodes, what: str, chance: random.Random) -> bool:
    """Strike the rank of a node, its daemon, or all that runs on it; whether it was there."""
    node = chance.choice([0, 1])
    job = nodes.jobs[node]
    with contextlib.suppress(psutil.NoSuchProcess):
        ours = psutil.Process(job.process.pid)
        below = ours.children(recursive=True)
        if what == "rank":
            below = [each for each in below if any("forked.py" in word for word in each.cmdline())]
        if what == "daemon":
            below = [each for each in below if each.name() in DAEMONS]
        struck = [ours, *below] if what == "node" else below
        return sum(strike(each, signal.SIGKILL) for each in struck) > 0
    return False


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.fault(4, 6, 7, 22, 27, 31, 37)
def test_nodes_that_are_struck_go_on_as_if_they_had_not_been(rig: Rig, bucket: Bucket) -> None:
    chance = seeded(rig.backend, "nodes")
    rig.settings.update(QUICK)
    options = ["--steps", str(STEPS)]
    alone = Training(rig, "alone", rig.work / "local")
    answer = rig.start(*together(alone, *options, "--fresh", "--callback", "none")).wait()
    assert answer.code == 0, answer
    stories, struck, prefix = [], 0, "run"
    while True:
        nodes = Nodes(rig, bucket, f"try {len(stories)}", *options, prefix=prefix)
        if struck < STRIKES:
            with contextlib.suppress(AssertionError):
                for job in nodes.jobs:
                    rig.await_text("is mounted at", job)
            let_pass(chance.uniform(0, 6))
            struck += strike_a_node(nodes, chance.choice(["rank", "daemon", "node"]), chance)
        answers = nodes.wait_as_a_scheduler()
        stories.append("\n".join(map(str, answers)))
        assert "did not end" not in stories[-1], stories[-1]
        assert len(stories) < TRIES, "\n".join(stories)
        assert_of_both(bucket, prefix)
        if [answer.code for answer in answers] == [0, 0]:
            if struck >= STRIKES:
                break
            # It came to its end before it was struck often enough: another one.
            prefix = f"run-{len(stories)}"
    assert max(proven_in(bucket, prefix)) == STEPS, "\n".join(stories)
    report = nodes.trainings[0].report
    if report["began_at"] < STEPS:
        assert report["losses"] == alone.report["losses"]
