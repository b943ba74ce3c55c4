"""Trainings that do not descend from each other, in one place."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from support.installed import needs
from support.training import Training, checkpoints

if TYPE_CHECKING:
    from support.rig import Bucket, Rig


def latest(rig: Rig, source: str) -> str:
    """The name of the checkpoint that ``mountkit latest`` gives."""
    answer = rig.ask("latest", source)
    assert answer.code in {0, 1}, answer
    return answer.out.strip().rpartition("/")[2]


def trained(rig: Rig, source: str, *commands: list[str]) -> str:
    """Trainings one after the other in one mount; what they said."""
    line = " && ".join(shlex.join(each) for each in commands)
    answer = rig.run(source, ["sh", "-c", line], limit=240)
    assert answer.code == 0, answer
    return answer.err


@pytest.fixture
def torch() -> None:
    needs("transformers", "torch")


@pytest.mark.fault(20, 48)
@pytest.mark.usefixtures("torch")
def test_from_the_start_below_an_older_and_longer_one(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    first, second = Training(rig), Training(rig, "second")
    options = ["--save-steps", "2", "--limit", "2"]
    said = trained(
        rig,
        source,
        first.command("--steps", "10", *options, "--fresh"),
        second.command("--steps", "6", *options, "--fresh"),
    )
    assert "does not descend: checkpoint-8, checkpoint-10." in said
    for step in (8, 10):
        assert f"checkpoint-{step} of another training is removed" in said
    assert second.report["saved"] == [2, 4, 6]
    assert checkpoints(bucket) == {"checkpoint-4", "checkpoint-6"}
    for step in (4, 6):
        second.assert_proven(bucket, step)
    assert latest(rig, source) == "checkpoint-6"


@pytest.mark.fault(48)
@pytest.mark.usefixtures("torch")
def test_resumed_from_the_middle(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    first, second = Training(rig), Training(rig, "second")
    said = trained(
        rig,
        source,
        first.command("--steps", "10", "--save-steps", "2", "--fresh"),
        second.command("--steps", "7", "--save-steps", "6", "--resume-from", "4"),
    )
    assert "does not descend: checkpoint-6, checkpoint-8, checkpoint-10. None" in said
    assert second.report["began_at"] == 4
    assert second.report["saved"] == [6, 7]
    # Nothing goes where there is no limit, and nothing that was left comes back.
    assert checkpoints(bucket) == {f"checkpoint-{step}" for step in (2, 4, 6, 7, 8, 10)}
    assert latest(rig, source) == "checkpoint-7"
    second.assert_proven(bucket, 6)
    bucket.flip("run/checkpoint-7/optimizer.pt")
    bucket.flip("run/checkpoint-6/optimizer.pt")
    assert latest(rig, source) == "checkpoint-4"


@pytest.mark.fault(7, 48)
@pytest.mark.usefixtures("torch")
def test_killed_before_its_first_is_proven(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    first, second = Training(rig), Training(rig, "second")
    options = ["--fresh", "--limit", "1", "--save-steps"]
    trained(rig, source, first.command("--steps", "6", *options, "6"))
    two = second.command("--steps", "6", *options, "2", "--pause-in-save", "2")
    # Its process says who it is, and becomes the training.
    line = f"echo $$ > {shlex.quote(str(rig.gates / 'pid'))} && exec {shlex.join(two)}"
    job = rig.begin(source, ["sh", "-c", line], limit=240)
    rig.await_word("in-2", job)
    assert "does not descend: checkpoint-6." in job.err
    rig.start("kill", "-9", (rig.gates / "pid").read_text().strip()).wait()
    answer = job.wait()
    assert answer.code == 128 + 9, answer
    assert bucket.manifest("run/checkpoint-2") is None
    assert latest(rig, source) == "checkpoint-6"
    first.assert_proven(bucket, 6)


@pytest.mark.fault(48)
@pytest.mark.parametrize("runs", [1, 2], ids=["one-run", "two-runs"])
def test_without_the_callback_the_drain_tells_them_apart(
    rig: Rig, bucket: Bucket, runs: int
) -> None:
    source = f"s3://{bucket.name}/run"
    longer = rig.light("save:2", "save:8", "save:10")
    shorter = rig.light("save:2", "save:4", "save:6")
    for commands in [[longer, shorter]] if runs == 1 else [[longer], [shorter]]:
        trained(rig, source, *commands)
    assert checkpoints(bucket) == {f"checkpoint-{step}" for step in (2, 4, 6, 8, 10)}
    assert latest(rig, source) == "checkpoint-6"
    # One that goes on from there.
    trained(rig, source, rig.light("save:12"))
    assert latest(rig, source) == "checkpoint-12"


@pytest.mark.fault(48)
def test_a_file_that_is_added_to_an_older_checkpoint_makes_it_no_newer(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    note = rig.target / "checkpoint-2/note.txt"
    trained(
        rig,
        source,
        rig.light("save:2", "save:4"),
        ["sh", "-c", f"echo kept > {shlex.quote(str(note))}"],
    )
    assert bucket.files("run/checkpoint-2")["note.txt"] == b"kept\n"
    assert latest(rig, source) == "checkpoint-4"


def test_a_later_run_adds_a_file_to_a_proven_checkpoint(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    note = shlex.quote(str(rig.target / "checkpoint-2/note.txt"))
    trained(rig, source, rig.light("save:2"))
    trained(rig, source, ["sh", "-c", f"echo kept > {note}"])
    manifest = bucket.manifest("run/checkpoint-2")
    assert manifest is not None
    assert {"note.txt", "model.safetensors"} < {entry["path"] for entry in manifest["files"]}
    assert latest(rig, source) == "checkpoint-2"
    # What is not the object that was proven is not taken for it.
    bucket.put("run/checkpoint-2/config.json", b"altered")
    answer = rig.run(source, ["sh", "-c", f"echo more > {note}"])
    assert answer.code == 75, answer
    assert "not proven: checkpoint-2/config.json" in answer.err
