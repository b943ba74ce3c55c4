"""A training that is killed at random moments and started again: as if it had not been.

``MOUNTKIT_TEST_MANY=20`` strikes so often.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from support import preloaded
from support.chaos import QUICK, seeded, strike
from support.installed import needs
from support.rig import MANIFEST, SCRIPTS

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from support.rig import Bucket, Job, Rig

needs("transformers", "torch")

STRIKES = int(os.environ.get("MOUNTKIT_TEST_MANY") or 2)
STEPS = 40
# From the moment that the mount is there, about as long as the training takes.
SECONDS = 8


class Proven:
    """The proven checkpoints that the bucket holds; never fewer than one once there is one."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self.source = f"s3://{bucket.name}/{prefix}"
        self.steps: set[int] = set()
        self._pages = bucket.client().get_paginator("list_objects_v2")
        self._place = {"Bucket": bucket.name, "Prefix": f"{prefix}/"}

    def look(self) -> None:
        # A listing is no moment: what is proven behind it and removed before it is in neither half.
        now = self._listed() or self._listed()
        assert now or not self.steps, f"of {self.steps} nothing is proven any more"
        self.steps = now

    def _listed(self) -> set[int]:
        pages = self._pages.paginate(**self._place)
        keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
        found = (key.split("/")[-2] for key in keys if key.endswith(f"/{MANIFEST}"))
        return {int(name.removeprefix("checkpoint-")) for name in found}


def strike_at(rig: Rig, job: Job, what: str) -> bool:
    """Kill the training, the daemon, or both with all that the job has started."""
    ours = psutil.Process(job.process.pid)
    try:
        below = ours.children(recursive=True)
        training = [each for each in below if any("plain.py" in word for word in each.cmdline())]
        daemon = [rig.daemon()]
    except (psutil.NoSuchProcess, AssertionError):
        # It ended, or is only just beginning.
        return False
    struck = {"training": training, "daemon": daemon, "both": [ours, *below, *daemon]}[what]
    return sum(strike(each, signal.SIGKILL) for each in struck) > 0


def losses(file: Path) -> list[tuple[int, float]]:
    lines = file.read_text().splitlines() if file.exists() else []
    return [(step, loss) for step, loss in map(json.loads, lines)]


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.fault(1, 6, 7, 20, 22, 37)
@pytest.mark.parametrize("added", ["callback", "attach"])
def test_a_training_that_is_killed_goes_on_as_if_it_had_not_been(
    rig: Rig, bucket: Bucket, added: str
) -> None:
    chance: random.Random = seeded(rig.backend, added)
    rig.settings.update(QUICK)
    options = ["--steps", str(STEPS), "--limit", "1", "--pause-at", "-1"]
    options += ["--callback"] if added == "callback" else []

    def words(name: str, *more: str) -> list[str]:
        notes = ["--notes", str(rig.work / f"{name}.losses")]
        places = [str(rig.target), str(rig.gates), str(rig.work / f"{name}.json")]
        script = [*places, *options, *notes, *more]
        return preloaded.command(rig.python, SCRIPTS / "plain.py", script)

    answer = rig.run(f"s3://{bucket.name}/undisturbed", words("undisturbed"), *rig.late)
    assert answer.code == 0, answer
    undisturbed = dict(losses(rig.work / "undisturbed.losses"))
    assert len(undisturbed) == STEPS
    proven = Proven(bucket, "run-0")
    stories, struck, again, ended = [], 0, 0, False
    while not ended:
        job = rig.begin(proven.source, words("run"), *rig.late, "--resume", limit=200)
        if struck < STRIKES:
            rig.await_text("is mounted at", job)
            moment = time.monotonic() + chance.uniform(0, SECONDS)
            while time.monotonic() < moment and not job.ended():
                proven.look()
            struck += strike_at(rig, job, chance.choice(["training", "daemon", "both"]))
        while not job.ended():
            proven.look()
        answer = job.wait()
        stories.append(str(answer))
        assert "did not end" not in answer.err, answer
        proven.look()
        ended = answer.code == 0 and struck >= STRIKES
        if answer.code == 0 and not ended:
            # It came to its end before it was struck often enough: another one.
            again += 1
            assert again <= 10 + STRIKES * 3, "\n".join(stories)
            proven = Proven(bucket, f"run-{again}")
    story = "\n".join(stories)
    assert max(proven.steps) == STEPS, story
    for step, loss in losses(rig.work / "run.losses"):
        assert undisturbed[step] == loss, f"step {step}\n{story}"
    assert len(dict(losses(rig.work / "run.losses"))) == STEPS, story
