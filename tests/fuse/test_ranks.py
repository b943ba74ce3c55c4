"""Several processes that train together on one machine: one checkpoint of all of them, or none."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from support.chaos import QUICK
from support.installed import needs
from support.ranks import by_accelerate, by_torchrun, rank_of, together
from support.training import Training

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

needs("transformers", "torch")


def paths(bucket: Bucket, step: int) -> set[str]:
    """What the manifest of a checkpoint lists."""
    manifest = bucket.manifest(f"run/checkpoint-{step}")
    return {file["path"] for file in manifest["files"]} if manifest else set()


def both(step_paths: set[str]) -> bool:
    return {"rng_state_0.pth", "rng_state_1.pth"} <= step_paths


@pytest.mark.fault(4, 20, 27)
def test_two_ranks_have_one_manifest_and_one_rank_goes_on(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    training = Training(rig)
    # Who starts the ranks has nothing to do with the backend: each of the two is tried once.
    by = by_torchrun if rig.write_back else by_accelerate
    answer = rig.run(source, by(training, "--steps", "6", "--limit", "2"), limit=200)
    assert answer.code == 0, answer
    # The callback proved them; the drain would have mended it at the end.
    assert set(training.report["proven"]) == {"2", "4", "6"}, answer
    for step in (4, 6):
        assert both(paths(bucket, step))
        training.assert_proven(bucket, step)
    assert bucket.everything("run/checkpoint-2") == {}
    again = Training(rig, "again")
    answer = rig.run(source, together(again, "--steps", "8", "--limit", "2", each=1))
    assert answer.code == 0, answer
    assert again.report["began_at"] == 6
    again.assert_proven(bucket, 8)


@pytest.mark.fault(7, 8, 27)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_save_that_a_lost_daemon_broke_is_made_again_by_all(
    rig: Rig, bucket: Bucket, number: signal.Signals
) -> None:
    rig.settings.update(QUICK)
    source = f"s3://{bucket.name}/run"
    training = Training(rig)
    job = rig.begin(source, together(training, "--steps", "6", "--pause-in-save", "4"), limit=200)
    rig.await_word("in-4", job)
    rig.daemon().send_signal(number)
    rig.await_text("mounted again", job)
    rig.say("go-in-4")
    answer = job.wait()
    assert answer.code == 0, answer
    assert "checkpoint-4 is saved again by all ranks" in answer.err
    for step in (2, 4, 6):
        assert both(paths(bucket, step))
    training.assert_proven(bucket, 6)


@pytest.mark.fault(7, 27)
def test_a_save_whose_ranks_wait_for_each_other_ends_the_job_when_it_breaks(
    rig: Rig, bucket: Bucket
) -> None:
    rig.settings.update(QUICK)
    source = f"s3://{bucket.name}/run"
    training = Training(rig)
    options = ["--steps", "6", "--best", "--pause-in-save", "4"]
    job = rig.begin(source, together(training, *options), limit=200)
    rig.await_word("in-4", job)
    rig.daemon().send_signal(signal.SIGKILL)
    rig.await_text("mounted again", job)
    rig.say("go-in-4")
    answer = job.wait()
    # Where no rank had a file open as the daemon died, no rank had an error either.
    assert answer.code in {0, 1}, answer
    assert "did not end" not in answer.err, answer
    assert both(paths(bucket, 2))
    if answer.code:
        assert paths(bucket, 4) == set(), answer


@pytest.mark.fault(7, 22, 27)
def test_a_rank_that_dies_in_a_save_leaves_no_manifest_and_the_job_goes_on_when_started_again(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    training = Training(rig)
    job = rig.begin(source, together(training, "--steps", "6", "--pause-in-save", "4"), limit=200)
    rig.await_word("in-4", job)
    rank_of(job, 1).kill()
    answer = job.wait()
    assert answer.code == 1, answer
    assert "did not end" not in answer.err, answer
    assert both(paths(bucket, 2))
    assert paths(bucket, 4) == set(), answer
    again = Training(rig, "again")
    answer = rig.run(source, together(again, "--steps", "6"))
    assert answer.code == 0, answer
    assert again.report["began_at"] == 2
    for step in (2, 4, 6):
        assert both(paths(bucket, step))
    again.assert_proven(bucket, 6)
    # To the letter what a training has that nobody disturbs.
    alone = Training(rig, "alone", rig.work / "local")
    answer = rig.start(*together(alone, "--steps", "6", "--fresh", "--callback", "none")).wait()
    assert answer.code == 0, answer
    assert again.report["losses"] == alone.report["losses"]


@pytest.mark.fault(2, 14, 27)
def test_what_cannot_be_proven_ends_every_rank_within_a_step(rig: Rig, bucket: Bucket) -> None:
    gate = rig.gate()
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    training = Training(rig)
    # No other save asks for the proof: the next step does.
    options = ["--steps", "100000", "--save-steps", "100000", "--save-late", "2"]
    options += ["--pause-at-save", "2"]
    job = rig.begin(
        f"s3://{bucket.name}/run", together(training, *options), *rig.late, endpoint=gate.url
    )
    rig.await_word("saved-2", job)
    gate.shut()
    rig.say("go-saved-2")
    answer = job.wait()
    assert answer.code == 1, answer
    said = answer.err.partition("the command ended")[0]
    assert "mountkit.errors.NotDurableError: checkpoint-2 is not proven" in said, answer
    assert "NotDurableError: Rank 0 failed, and so all ranks end" in said, answer
    assert "did not end" not in said
    assert bucket.manifest("run/checkpoint-2") is None


@pytest.mark.fault(25, 27)
def test_a_signal_to_one_rank_saves_on_all(rig: Rig, bucket: Bucket) -> None:
    training = Training(rig)
    options = ["--steps", "4000", "--jit", "--pause-at", "3", "--save-steps", "1000"]
    job = rig.begin(f"s3://{bucket.name}/run", together(training, *options))
    rig.await_word("at-3", job)
    rank_of(job, 1).send_signal(signal.SIGTERM)
    rig.say("go-at-3")
    answer = job.wait()
    assert answer.code == 0, answer
    [step] = training.report["written"]
    assert both(paths(bucket, step)), answer
    assert "checkpoint-is-incomplete.txt" not in paths(bucket, step)
    assert step < 4000
