"""The logs of a training, TensorBoard's events among them, in the bucket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.installed import needs
from support.rig import eventually
from support.training import Training

if TYPE_CHECKING:
    from pathlib import Path

    from support.rig import Bucket, Rig

needs("transformers", "torch", "tensorboard")

LOGS = "run/logs"


def losses(folder: Path) -> list[int]:
    """The steps of which TensorBoard shows a loss, from what the bucket holds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [each.step for each in events.Scalars("train/loss")]


def metrics(bucket: Bucket) -> list[int]:
    """The steps of which ``metrics.jsonl`` has a loss."""
    lines = bucket.files(LOGS)["metrics.jsonl"].decode().splitlines()
    return [entry["step"] for entry in map(json.loads, lines) if "loss" in entry]


@pytest.mark.fault(30)
def test_the_logs_of_a_run_that_is_resumed_go_on_in_the_bucket(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    first, second = Training(rig), Training(rig, "second")
    options = ["--steps", "4", "--save-steps", "2", "--pause-at", "3", "--logs"]
    job = rig.begin(source, first.command(*options))
    rig.await_word("at-3", job)
    # With the save, and not only at the end.
    eventually(lambda: "metrics.jsonl" in bucket.files(LOGS) and 2 in metrics(bucket), "copied")
    rig.say("go-at-3")
    answer = job.wait()
    assert answer.code == 0, answer
    assert "a log cannot be written" not in answer.err
    assert losses(bucket.disk / LOGS / "tensorboard") == [1, 2, 3, 4]
    assert metrics(bucket) == [1, 2, 3, 4]
    first.assert_proven(bucket, 4)

    answer = rig.run(source, second.command("--steps", "6", "--save-steps", "2", "--logs"))
    assert answer.code == 0, answer
    assert losses(bucket.disk / LOGS / "tensorboard") == [1, 2, 3, 4, 5, 6]
    assert metrics(bucket) == [1, 2, 3, 4, 5, 6]
    files = bucket.files(LOGS)
    log = files["training.log"].decode()
    assert "begins at step 0 of 4" in log
    assert "begins at step 4 of 6" in log
    assert b"GPT2LMHeadModel" in files["model_info.txt"]
    # Nothing but these: no temporary file, and no folder of TensorBoard's own beside them.
    names = {path.partition("/")[0] for path in files}
    assert names == {"training.log", "metrics.jsonl", "model_info.txt", "tensorboard"}
    assert not [path for path in bucket.files("run") if path.startswith("runs/")]


@pytest.mark.fault(6, 30)
def test_a_daemon_that_dies_and_a_place_in_the_mount_that_was_asked_for(
    rig: Rig, bucket: Bucket
) -> None:
    training = Training(rig)
    options = ["--steps", "4", "--save-steps", "2", "--pause-at", "3", "--logs"]
    place = {"TENSORBOARD_LOGGING_DIR": str(rig.target / "boards/one")}
    job = rig.begin(f"s3://{bucket.name}/run", training.command(*options), **place)
    rig.await_word("at-3", job)
    rig.kill(rig.daemon())
    rig.say("go-at-3")
    answer = job.wait()
    assert answer.code == 0, answer
    assert losses(bucket.disk / "run/boards/one") == [1, 2, 3, 4]
    assert metrics(bucket) == [1, 2, 3, 4]
    training.assert_proven(bucket, 4)


@pytest.mark.fault(30)
def test_a_log_that_cannot_be_written_is_a_warning(rig: Rig, bucket: Bucket) -> None:
    # Where the folder belongs is a file.
    bucket.put(LOGS, b"somebody's notes")
    training = Training(rig)
    options = ["--steps", "2", "--save-steps", "2", "--logs"]
    answer = rig.run(f"s3://{bucket.name}/run", training.command(*options))
    assert answer.code == 0, answer
    assert f"a log cannot be written: {rig.target}/logs" in answer.err
    training.assert_proven(bucket, 2)
    assert bucket.files("run")["logs"] == b"somebody's notes"
