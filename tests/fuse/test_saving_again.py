"""A mount or a store that is lost in the middle of a save of a real Trainer."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from support.installed import needs
from support.proxy import Fault, Request
from support.training import Training

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

needs("transformers", "torch")

OPTIONS = ["--steps", "6", "--save-steps", "2", "--pause-in-save", "4"]


@pytest.mark.fault(7, 8)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_daemon_lost_in_the_middle_of_a_save(
    rig: Rig, bucket: Bucket, number: signal.Signals
) -> None:
    training = Training(rig)
    job = rig.begin(f"s3://{bucket.name}/run", training.command(*OPTIONS))
    rig.await_word("in-4", job)
    rig.daemon().send_signal(number)
    # Whoever asks meanwhile is not kept for ever either.
    listing = rig.start("ls", rig.target)
    rig.say("go-in-4")
    rig.await_text("mounted again", job)
    assert listing.wait().code in {0, 2}
    assert rig.start("ls", rig.target).wait().code in {0, 2}
    answer = job.wait()
    assert answer.code == 0, answer
    assert "checkpoint-4 is saved again" in answer.err
    for step in (2, 4, 6):
        training.assert_proven(bucket, step)


@pytest.mark.fault(7)
def test_a_daemon_lost_in_a_save_of_a_trainer_that_saves_more(rig: Rig, bucket: Bucket) -> None:
    training = Training(rig)
    job = rig.begin(f"s3://{bucket.name}/run", training.command(*OPTIONS, "--overriding"))
    rig.await_word("in-4", job)
    rig.kill(rig.daemon())
    rig.say("go-in-4")
    answer = job.wait()
    assert answer.code == 0, answer
    assert answer.err.count("checkpoint-4 is saved again") == 1
    # Each once, and that one once more as a whole.
    assert training.report["written"] == [2, 4, 4, 6]
    for step in (2, 4, 6):
        assert "entropy_ctrl_state.json" in training.written(step)
        training.assert_proven(bucket, step)
    assert bucket.files("run")["README.md"] == b"a model card"


@pytest.mark.fault(33, 34)
def test_a_store_that_is_away_in_the_middle_of_a_save(rig: Rig, bucket: Bucket) -> None:
    proxy = rig.proxy()
    training = Training(rig)
    # The daemons try again by themselves, for longer than a test wants to wait.
    job = rig.begin(
        f"s3://{bucket.name}/run",
        training.command(*OPTIONS),
        *(() if rig.write_back else ("--option", "max-threads=8")),
        endpoint=proxy.url,
        AWS_MAX_ATTEMPTS="1",
        limit=280,
    )
    rig.await_word("in-4", job)
    proxy.rule = lambda _: Fault(reset=True)
    rig.say("go-in-4")
    until = time.monotonic() + 120
    while proxy.faults < 5:
        assert time.monotonic() < until, "nobody asked for the store"
        assert not job.ended(), job.wait()
        time.sleep(0.05)
    proxy.rule = nothing
    answer = job.wait()
    assert answer.code == 0, answer
    for step in (2, 4, 6):
        training.assert_proven(bucket, step)


def nothing(_: Request) -> Fault | None:
    """Let every request through."""
    return None
