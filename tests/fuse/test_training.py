"""A real ``transformers.Trainer`` under ``mountkit run``. Each run costs seconds of imports."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from support.assertions import assert_proven
from support.installed import needs
from support.rig import MANIFEST
from support.training import Training, checkpoints

if TYPE_CHECKING:
    from support.rig import Answer, Bucket, Rig


needs("transformers", "torch")


@pytest.mark.fault(3, 4, 6, 20, 23, 26)
def test_train_with_a_killed_daemon_then_resume(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    first = Training(rig)
    options = ["--steps", "12", "--save-steps", "3", "--limit", "2", "--pause-at", "7"]
    job = rig.begin(source, first.from_the_start(*options), *rig.late)
    rig.await_word("at-7", job)
    rig.kill(rig.daemon())
    rig.say("go-at-7")
    answer: Answer = job.wait()
    assert answer.code == 0, answer
    assert first.report["saved"] == [3, 6, 9, 12]
    assert first.report["began_at"] == 0
    # The newest two by number: times on a bucket say nothing.
    assert checkpoints(bucket) == {"checkpoint-9", "checkpoint-12"}
    first.assert_proven(bucket, 9)
    first.assert_proven(bucket, 12)
    url = f"{source}/checkpoint-12"
    verified = rig.ask("verify", url)
    assert verified.code == 0, verified

    second = Training(rig, "second")
    options = ["--steps", "15", "--save-steps", "3", "--limit", "2", "--final-model", "final"]
    answer = rig.run(source, second.command(*options), *rig.late)
    assert answer.code == 0, answer
    assert second.report["resumed_from"] == str(rig.target / "checkpoint-12")
    assert second.report["began_at"] == 12
    assert second.report["saved"] == [15]
    second.assert_proven(bucket, 15)
    # The one resumed from stays, beside the newest two.
    assert checkpoints(bucket) >= {"checkpoint-12", "checkpoint-15", "final"}
    final = bucket.files("run/final")
    assert final["model.safetensors"] == second.written(15)["model.safetensors"]
    state = json.loads(bucket.files("run/checkpoint-15")["trainer_state.json"])
    assert [entry["step"] for entry in state["log_history"]] == list(range(1, 16))


@pytest.mark.fault(4, 5)
def test_without_the_callback_the_drain_proves_it_all(rig: Rig, bucket: Bucket) -> None:
    training = Training(rig)
    options = ["--steps", "4", "--save-steps", "2", "--callback", "none"]
    flags = [*rig.late, "--no-attach"]
    answer = rig.run(f"s3://{bucket.name}/run", training.command(*options), *flags)
    assert answer.code == 0, answer
    training.assert_proven(bucket, 2)
    training.assert_proven(bucket, 4)


@pytest.mark.fault(2, 14)
def test_a_save_that_cannot_be_proven_ends_the_training_with_its_name(
    rig: Rig, bucket: Bucket
) -> None:
    gate = rig.gate()
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    training = Training(rig)
    options = ["--steps", "4", "--save-steps", "2", "--pause-at-save", "2", "--pause-at", "3"]
    job = rig.begin(
        f"s3://{bucket.name}/run", training.command(*options), *rig.late, endpoint=gate.url
    )
    rig.await_word("saved-2", job)
    gate.shut()
    rig.say("go-saved-2")
    # Training goes on beside the proof; the next save is what waits for it.
    rig.await_word("at-3", job)
    rig.say("go-at-3")
    answer = job.wait()
    assert answer.code == 1, answer
    training_said = answer.err.partition("the command ended")[0]
    assert "NotDurableError" in training_said
    assert "checkpoint-2/model.safetensors" in training_said
    assert training.report["saved"] == [2]
    assert not [path for path in bucket.everything() if path.endswith(MANIFEST)]


@pytest.mark.fault(14, 34)
def test_told_to_warn_the_training_goes_on_and_all_is_proven_when_the_store_is_back(
    rig: Rig, bucket: Bucket
) -> None:
    gate = rig.gate()
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    training = Training(rig)
    options = ["--steps", "5", "--save-steps", "2", "--pause-at-save", "2", "--pause-at", "3"]
    options += ["--callback", "warn"]
    job = rig.begin(
        f"s3://{bucket.name}/run", training.command(*options), *rig.late, endpoint=gate.url
    )
    rig.await_word("saved-2", job)
    gate.shut()
    rig.say("go-saved-2")
    rig.await_word("at-3", job)
    # Nothing but the next save waits for the proof, so it is let go on before it is told.
    rig.say("go-at-3")
    rig.await_text("checkpoint-2 is not proven", job)
    assert "checkpoint-2/model.safetensors" in job.err
    gate.open()
    answer = job.wait()
    assert answer.code == 0, answer
    assert training.report["saved"] == [2, 4, 5]
    for step in (2, 4, 5):
        training.assert_proven(bucket, step)


def test_where_no_mount_is_the_training_goes_on_locally_and_says_so(rig: Rig) -> None:
    training = Training(rig)
    rig.target.mkdir()
    options = ["--steps", "2", "--save-steps", "2", "--fresh"]
    answer = rig.start(*training.command(*options)).wait()
    assert "no mount covers" in answer.err
    assert answer.code == 0, answer
    assert (rig.target / "checkpoint-2/trainer_state.json").exists()


@pytest.mark.fault(7, 22)
def test_a_save_that_nobody_announced_replaces_that_of_an_earlier_training(
    rig: Rig, bucket: Bucket
) -> None:
    first, second = Training(rig), Training(rig, "second")
    # The one learns at another rate than the other, so that their weights differ.
    one = first.command("--steps", "2", "--save-steps", "2")
    options = ["--steps", "9", "--save-steps", "9", "--save-late", "2", "--fresh"]
    both = f"{shlex.join(one)} && {shlex.join(second.command(*options))}"
    answer = rig.run(f"s3://{bucket.name}/run", ["sh", "-c", both])
    assert answer.code == 0, answer
    assert first.written(2)["model.safetensors"] != second.written(2)["model.safetensors"]
    second.assert_proven(bucket, 2)
    second.assert_proven(bucket, 9)


@pytest.mark.fault(7, 20, 22)
@pytest.mark.parametrize(
    ("more", "runs"), [(("--adapter",), 1), (("--shard", "20KB"), 2)], ids=["one-run", "two-runs"]
)
def test_a_save_over_that_of_an_earlier_training_has_none_of_its_files(
    rig: Rig, bucket: Bucket, more: tuple[str, ...], runs: int
) -> None:
    source = f"s3://{bucket.name}/run"
    # What a save that broke off has left, long ago.
    bucket.put("run/checkpoint-4/scaler.pt", b"torn")
    first, second = Training(rig), Training(rig, "second")
    commands = [
        shlex.join(first.command("--steps", "2", "--save-steps", "2", *more)),
        shlex.join(second.command("--steps", "6", "--save-steps", "2", "--fresh")),
    ]
    for command in commands if runs > 1 else [" && ".join(commands)]:
        answer = rig.run(source, ["sh", "-c", command])
        assert answer.code == 0, answer
    for step in (2, 4, 6):
        # Where nothing was before, there are just the files of a save.
        assert set(second.written(step)) == set(second.written(6))
        second.assert_proven(bucket, step)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (["--steps", "4", "--save-steps", "2"], (2, 4)),
        # The end of an epoch, or of the training, is then the first that is told of a save.
        (["--steps", "4", "--save-steps", "2", "--own-loop"], (2, 4)),
        (["--steps", "18", "--save-steps", "9", "--own-loop", "--epochs"], (16, 18)),
    ],
    ids=["steps", "own-loop", "own-loop-epochs"],
)
def test_what_a_later_callback_adds_to_a_checkpoint_is_part_of_it(
    rig: Rig, bucket: Bucket, options: list[str], steps: tuple[int, ...]
) -> None:
    training = Training(rig)
    answer = rig.run(f"s3://{bucket.name}/run", training.command(*options, "--adapter"))
    assert answer.code == 0, answer
    assert tuple(training.report["saved"]) == steps
    for step in steps:
        added = {"adapter_model.bin": b"adapter" * 1000 * step}
        whole = training.written(step) | added
        assert_proven(bucket, f"run/checkpoint-{step}", whole)
        # So it was when the callback proved it; the drain would have mended it at the end.
        assert training.report["proven"][str(step)] == len(whole)


@pytest.mark.fault(5, 20)
@pytest.mark.parametrize("when", ["--save-again", "--save-again-at-once"])
def test_a_step_that_is_saved_once_more_on_a_signal_stays_proven(
    rig: Rig, bucket: Bucket, when: str
) -> None:
    training = Training(rig)
    command = training.command("--steps", "4", "--save-steps", "2", when, "2")
    answer = rig.run(f"s3://{bucket.name}/run", command)
    assert answer.code == 0, answer
    assert training.report["newest_after_again"] == str(rig.target / "checkpoint-2")
    # Not a second time, also where its proof was under way.
    assert training.report["written"] == [2, 4]
    for step in (2, 4):
        training.assert_proven(bucket, step)
