"""The same place, mounted on two machines: neither takes the other's uploads for its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from light import checkpoint

from support.assertions import assert_proven
from support.rig import eventually

if TYPE_CHECKING:
    from support.rig import Bucket, Rig


@pytest.mark.fault(15, 36)
def test_what_another_machine_saves_meanwhile_is_not_missed(rig: Rig, bucket: Bucket) -> None:
    source, there = f"s3://{bucket.name}/run", rig.work / "there"
    # A machine is what it knows, and what it has not uploaded yet.
    other = {
        "MOUNTKIT_STATE_DIR": str(rig.work / "other" / "state"),
        "MOUNTKIT_CACHE_DIR": str(rig.work / "other" / "cache"),
    }
    job = rig.begin(source, rig.light("save:5", "say:saved", "wait:go"))
    rig.await_word("saved", job)
    command = rig.light("save:10", "wait:over", target=there)
    node = rig.begin(source, command, "--node", "1", target=there, **other)
    state = bucket.disk / "run/checkpoint-10/trainer_state.json"

    def uploaded() -> bool:
        assert not node.ended(), node.wait()
        return state.exists()

    eventually(uploaded, "uploaded by the other machine")
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    assert "checkpoint-10" not in answer.err
    rig.say("over")
    ended = node.wait()
    assert ended.code == 0, ended
    for step in (5, 10):
        assert_proven(bucket, f"run/checkpoint-{step}", checkpoint(step))
