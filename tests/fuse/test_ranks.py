"""Several processes that train together, without the callback, which refuses them so far."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from support.installed import needs
from support.training import Training

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

needs("transformers", "torch")

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def together(training: Training, *options: str) -> list[str]:
    """The training in two processes."""
    python, *words = training.from_the_start("--callback", "none", "--save-steps", "2", *options)
    return [python, *TORCHRUN, *words]


@pytest.mark.fault(7, 8)
def test_a_daemon_that_hangs_in_the_middle_of_a_save_of_two(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    training = Training(rig)
    job = rig.begin(source, together(training, "--steps", "6", "--pause-in-save", "4"), limit=200)
    rig.await_word("in-4", job)
    rig.daemon().send_signal(signal.SIGSTOP)
    rig.await_text("mounted again", job)
    rig.say("go-in-4")
    answer = job.wait()
    # Nobody can agree with the other processes on a repeat: it goes on, or it ends for a restart.
    assert bucket.manifest("run/checkpoint-4") is None
    assert bucket.manifest("run/checkpoint-2") is not None, answer
    assert "checkpoint-4" in answer.err, answer
    # With 75 the job went on, and files of the torn one are named.
    if answer.code in {0, 75}:
        assert bucket.manifest("run/checkpoint-6") is not None, answer
        return
    assert answer.code == 1, answer
    assert (
        f"run it again, from the newest proven checkpoint: mountkit latest {source}" in answer.err
    )
    again = Training(rig, "again")
    answer = rig.run(source, together(again, "--steps", "6"), limit=200)
    assert answer.code == 0, answer
    assert again.report["resumed_from"] == str(rig.target / "checkpoint-2")
    assert bucket.manifest("run/checkpoint-6") is not None, answer
