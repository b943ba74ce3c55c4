"""FSDP: a checkpoint in shards of all ranks, also on a mount that takes no rename."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.assertions import assert_proven
from support.installed import needs
from support.ranks import rank_of, together
from support.training import Training

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

needs("transformers", "torch")

FOLDERS = ("optimizer_0", "pytorch_model_fsdp_0")
SHARDS = {f"{folder}/{name}" for folder in FOLDERS for name in (".metadata", "__0_0.distcp")}


@pytest.mark.fault(7, 22, 27, 29)
def test_shards_are_proven_as_one_and_the_losses_are_those_of_an_undisturbed_run(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    options = ("--steps", "6", "--sharded")
    first = Training(rig)
    job = rig.begin(source, together(first, *options, "--pause-in-save", "4"), limit=200)
    rig.await_word("in-4", job)
    rank_of(job, 1).kill()
    answer = job.wait()
    assert answer.code == 1, answer
    assert "did not end" not in answer.err, answer
    assert bucket.manifest("run/checkpoint-4") is None
    again = Training(rig, "again")
    answer = rig.run(source, together(again, *options), limit=200)
    assert answer.code == 0, answer
    assert again.report["began_at"] == 2
    for training, step in ((first, 2), (again, 4), (again, 6)):
        written = training.written(step, "pytorch_model_fsdp_0/.metadata")
        assert written.keys() >= SHARDS | {"rng_state_0.pth", "rng_state_1.pth"}
        assert_proven(bucket, f"run/checkpoint-{step}", written)
    alone = Training(rig, "alone", rig.work / "local")
    answer = rig.start(*together(alone, *options, "--fresh", "--callback", "none")).wait()
    assert answer.code == 0, answer
    assert again.report["losses"] == alone.report["losses"]
