"""Scripts that do more with Trainers than to train one, in one process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support import preloaded
from support.installed import needs
from support.rig import SCRIPTS

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

needs("transformers", "torch")


def script(rig: Rig, kind: str) -> list[str]:
    words = [kind, str(rig.target), str(rig.gates)]
    return preloaded.command(rig.python, SCRIPTS / "several.py", words)


@pytest.mark.fault(7)
@pytest.mark.parametrize("end", ["", "; true"], ids=["told", "hidden by a shell"])
def test_a_file_that_another_callback_had_half_written_is_proven_by_nobody(
    rig: Rig, bucket: Bucket, end: str
) -> None:
    line = " ".join(f"'{word}'" for word in script(rig, "killed"))
    answer = rig.run(f"s3://{bucket.name}/run", ["sh", "-c", f"{line}{end}"])
    assert "checkpoint-2 is not a finished checkpoint" in answer.err, answer
    assert bucket.manifest("run/checkpoint-2") is None


@pytest.mark.fault(20)
def test_what_is_saved_once_more_at_an_evaluation_is_what_is_proven(
    rig: Rig, bucket: Bucket
) -> None:
    from safetensors.torch import load

    answer = rig.run(f"s3://{bucket.name}/run", script(rig, "evaluated"))
    assert answer.code == 0, answer
    files = bucket.files("run/checkpoint-2")
    assert load(files["model.safetensors"])["layer.weight"].flatten().tolist() == [2.0] * 4
    history = json.loads(files["trainer_state.json"])["log_history"]
    assert any("eval_loss" in entry for entry in history)
    assert rig.ask("verify", f"s3://{bucket.name}/run/checkpoint-2").code == 0


@pytest.mark.fault(4)
def test_what_a_callback_saves_by_itself_before_it_leaves_is_proven(
    rig: Rig, bucket: Bucket
) -> None:
    answer = rig.run(f"s3://{bucket.name}/run", script(rig, "left"))
    assert answer.code == 0, answer
    assert "checkpoint-2 proven" in answer.err
    assert bucket.manifest("run/checkpoint-2") is not None


@pytest.mark.fault(30)
def test_two_trainers_of_one_place_write_one_log(rig: Rig, bucket: Bucket) -> None:
    answer = rig.run(f"s3://{bucket.name}/run", script(rig, "two"))
    assert answer.code == 0, answer
    files = bucket.files("run/logs")
    lines = [json.loads(line) for line in files["metrics.jsonl"].decode().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 1, 2]
    assert any("eval_loss" in line for line in lines)
    log = files["training.log"].decode()
    assert "begins at step 0 of 1" in log
    assert "begins at step 0 of 2" in log


@pytest.mark.fault(20, 22)
@pytest.mark.cached
def test_one_that_is_tried_again_goes_on_from_what_is_being_proven(
    rig: Rig, bucket: Bucket
) -> None:
    gate = rig.gate()
    source = f"s3://{bucket.name}/run"
    job = rig.begin(source, script(rig, "retried"), "--resume", endpoint=gate.url)
    rig.await_word("saved-4", job)
    gate.shut()
    rig.say("slow")
    rig.await_word("shut", job)
    gate.open()
    answer = job.wait()
    assert answer.code == 0, answer
    assert "the training waits until checkpoint-4 of the one before is proven" in answer.err
    begun = sorted(path.name for path in rig.gates.glob("begins-*"))
    assert begun == ["begins-1-at-0", "begins-2-at-4"]
    assert rig.ask("latest", source).out.strip().endswith("checkpoint-8")
