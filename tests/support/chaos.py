"""Random moments, and what has to hold after them."""

from __future__ import annotations

import os
import random
import threading
from typing import TYPE_CHECKING

import psutil
from saving import LOG, files

from support.assertions import assert_proven
from support.rig import SCRIPTS, eventually

if TYPE_CHECKING:
    import signal
    from pathlib import Path

    from support.rig import Answer, Bucket, Job, Rig

# A daemon that is stopped is seen after a second, so that the suite stays short.
QUICK = {"MOUNTKIT_PROBE_INTERVAL": "0.2", "MOUNTKIT_PROBE_TIMEOUT": "1"}
SEED = int(os.environ.get("MOUNTKIT_TEST_SEED") or random.SystemRandom().randrange(1 << 31))


def seeded(*words: object) -> random.Random:
    """Random numbers of a test's own; pytest shows the seed where the test fails."""
    print(f"To have the same moments again: MOUNTKIT_TEST_SEED={SEED}")
    return random.Random(f"{SEED} {words}")


def let_pass(seconds: float) -> None:
    """Make a moment random. Nothing is expected to have happened by then."""
    threading.Event().wait(seconds)


class Saves:
    """What the saving script has told so far."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.path = rig.gates / LOG

    def command(self, *options: str, target: Path | None = None) -> list[str]:
        words = [self.rig.python, SCRIPTS / "saving.py", target or self.rig.target, self.rig.gates]
        return [*map(str, words), *options]

    def told(self, event: str) -> list[int]:
        """The steps of an event, in order."""
        text = self.path.read_text() if self.path.exists() else ""
        lines = [line.split(maxsplit=2) for line in text.splitlines()]
        return [int(step) for name, step, *_ in lines if name == event]

    def await_more(self, job: Job, event: str = "saved", count: int = 1) -> None:
        """Wait until it has told an event so many times more than by now."""
        wanted = len(self.told(event)) + count

        def told() -> bool:
            if len(self.told(event)) >= wanted:
                return True
            assert not job.ended(), job.wait()
            return False

        eventually(told, f"{event} {count} times more\n{self}", 90)

    def __str__(self) -> str:
        return self.path.read_text() if self.path.exists() else "it told nothing"


def proven_in(bucket: Bucket, prefix: str = "run") -> list[int]:
    """The steps of the checkpoints that have a manifest."""
    names = {path.partition("/")[0] for path in bucket.everything(prefix)}
    steps = [int(name.removeprefix("checkpoint-")) for name in names if "checkpoint-" in name]
    return [step for step in sorted(steps) if bucket.manifest(f"{prefix}/checkpoint-{step}")]


def assert_the_truth(bucket: Bucket, saves: Saves, answer: Answer, size: int = 0) -> None:
    """What has a manifest is right to the byte; what was saved has one, or was named with 75.

    ``size`` is that of the weights, if the saves were told one.
    """
    story = f"{answer}\n{saves}"
    proven = proven_in(bucket)
    for step in proven:
        assert_proven(bucket, f"run/checkpoint-{step}", files(step, size))
    missing = [step for step in saves.told("saved") if step not in proven]
    assert answer.code == (75 if missing else 0), story
    for step in missing:
        assert f"checkpoint-{step}" in answer.err, story
    assert set(saves.told("proven")) <= set(proven), story


def strike(process: psutil.Process, number: signal.Signals) -> bool:
    """Whether there still was something to strike."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True
