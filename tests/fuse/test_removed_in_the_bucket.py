"""Files that somebody removed in the bucket, past the mount, before anybody had proven them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.rig import eventually
from support.runs import kill_all

if TYPE_CHECKING:
    from support.rig import Bucket, Rig


@pytest.mark.uncached
@pytest.mark.fault(22, 32)
def test_they_are_named_by_one_run_and_their_checkpoint_is_proven_by_none(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    job = rig.begin(source, rig.light("save:10", "model:final", "say:saved", "wait:never"))
    rig.await_word("saved", job)
    eventually(lambda: bucket.arrived("run").get("final/model.safetensors"), "there")
    kill_all(rig, job)
    client, gone = bucket.client(), ("checkpoint-10/optimizer.pt", "final/model.safetensors")
    for name in gone:
        client.delete_object(Bucket=bucket.name, Key=f"run/{name}")
    limit = {"MOUNTKIT_STALL_TIMEOUT": "4"}
    named = rig.run(source, ["true"], **limit)
    assert named.code == 75, named
    for name in gone:
        assert f"not proven: {name} (" in named.err, named
    for _ in range(2):
        after = rig.run(source, ["true"], **limit)
        assert after.code == 0, after
        assert bucket.manifest("run/checkpoint-10") is None
        assert rig.ask("latest", source).code == 1
    # A training that writes them once more has them proven.
    again = rig.run(source, rig.light("save:10", "model:final"))
    assert again.code == 0, again
    assert rig.ask("latest", source).code == 0
