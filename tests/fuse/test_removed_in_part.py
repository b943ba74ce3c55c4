"""A checkpoint that a program had begun to remove, when it or the whole run ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from light import checkpoint, write

from mountkit.names import SAME_SAVE_SECONDS
from support.assertions import assert_proven
from support.rig import eventually
from support.runs import kill_all

if TYPE_CHECKING:
    from pathlib import Path

    from support.rig import Bucket, Rig


def old_enough(top: Path) -> None:
    """Wait until what happens now is no part of the save."""
    saved = (top / "trainer_state.json").stat().st_mtime
    eventually(lambda: time.time() - saved > SAME_SAVE_SECONDS + 1, "that old")


def broken_removal(rig: Rig, step: int) -> None:
    """Removes some files of a checkpoint that was saved a while ago, and the state is not one."""
    top = rig.target / f"checkpoint-{step}"
    old_enough(top)
    for name in (
        "model.safetensors",
        "optimizer.pt",
        "sub folder/deep er/adapter model.safetensors",
    ):
        (top / name).unlink()


@pytest.mark.fault(7, 20, 22)
@pytest.mark.parametrize("end", ["well", "fails", "is killed", "is killed before the upload"])
def test_a_checkpoint_that_was_removed_in_part_is_none(rig: Rig, bucket: Bucket, end: str) -> None:
    source = f"s3://{bucket.name}/run"
    late = rig.late if end.endswith("upload") else ()
    code = 0 if end == "well" else 3
    command = rig.light("save:10", "save:20", "say:saved", "wait:go", f"exit:{code}")
    job = rig.begin(source, command, *late)
    rig.await_word("saved", job)
    if rig.write_back and not late:
        eventually(lambda: bucket.arrived("run/checkpoint-10").get("trainer_state.json"), "there")
        eventually(lambda: rig.pending() == 0, "done with it")
    broken_removal(rig, 10)
    # Whoever reads what is left changes nothing about it.
    state = rig.target / "checkpoint-10/trainer_state.json"
    assert rig.start("cat", state).wait().code == 0
    if end in {"well", "fails"}:
        rig.say("go")
        assert job.wait().code == code
    else:
        kill_all(rig, job)
        again = rig.run(source, rig.light("exit:0"), *late)
        assert again.code == 0, again
        assert "checkpoint-10 is not a finished checkpoint" in again.err
    assert bucket.manifest("run/checkpoint-10") is None
    assert_proven(bucket, "run/checkpoint-20", checkpoint(20))
    # And it may be saved anew.
    answer = rig.run(source, rig.light("save:10", "exit:3"))
    assert answer.code == 3, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(6)
def test_a_checkpoint_to_which_a_file_was_added_later_stays_one(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    job = rig.begin(source, rig.light("save:10", "say:saved", "wait:go"))
    rig.await_word("saved", job)
    top = rig.target / "checkpoint-10"
    old_enough(top)
    added = {"eval_results.json": b"{}"}
    write(top, added)
    eventually(lambda: bucket.arrived("run/checkpoint-10").get("eval_results.json"), "there")
    eventually(lambda: rig.pending() == 0, "done with it")
    rig.kill(rig.daemon())
    rig.await_remount()
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10) | added)
