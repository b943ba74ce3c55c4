"""Two ranks, struck at random moments and started again: each checkpoint is that of both."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

import psutil
import pytest

from support.chaos import QUICK, let_pass, proven_in, seeded, strike
from support.installed import needs
from support.ranks import rank_of, together
from support.training import Training

if TYPE_CHECKING:
    import random

    from support.rig import Bucket, Job, Rig

needs("transformers", "torch")

STRIKES = 2
STEPS = 16


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


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.fault(6, 7, 8, 22, 27, 37)
@pytest.mark.parametrize("mode", ["ddp", "sharded"])
def test_ranks_that_are_struck_go_on_as_if_they_had_not_been(
    rig: Rig, bucket: Bucket, mode: str
) -> None:
    chance = seeded(rig.backend, mode)
    rig.settings.update(QUICK)
    source = f"s3://{bucket.name}/run"
    options = ["--steps", str(STEPS)] + (["--sharded"] if mode == "sharded" else [])
    alone = Training(rig, "alone", rig.work / "local")
    answer = rig.start(*together(alone, *options, "--fresh", "--callback", "none")).wait()
    assert answer.code == 0, answer
    stories, struck, ended = [], 0, False
    while not ended:
        training = Training(rig, f"try {len(stories)}")
        job = rig.begin(source, together(training, *options), limit=200)
        if struck < STRIKES:
            with contextlib.suppress(AssertionError):
                rig.await_text("is mounted at", job)
            let_pass(chance.uniform(0, 6))
            struck += strike_at(rig, job, chance.choice(["rank", "daemon", "job"]), chance)
        answer = job.wait()
        stories.append(str(answer))
        assert "did not end" not in answer.err, answer
        assert len(stories) < STRIKES * 3, "\n".join(stories)
        for step in proven_in(bucket):
            manifest = bucket.manifest(f"run/checkpoint-{step}")
            listed = {file["path"] for file in manifest["files"]}
            assert {"rng_state_0.pth", "rng_state_1.pth", "trainer_state.json"} <= listed
        ended = answer.code == 0 and struck >= STRIKES
    assert max(proven_in(bucket)) == STEPS, "\n".join(stories)
    if training.report["began_at"] < STEPS:
        assert training.report["losses"] == alone.report["losses"]
