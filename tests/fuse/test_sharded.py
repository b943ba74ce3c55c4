"""FSDP and DeepSpeed: a checkpoint of one model that all ranks share, on each backend."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from support.assertions import assert_proven
from support.installed import DEEPSPEED, needs
from support.ranks import rank_of, together
from support.training import Training

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

needs("transformers", "torch")

SHARED = {"rng_state_0.pth", "rng_state_1.pth", "scheduler.pt"}
FOLDERS = ("optimizer_0", "pytorch_model_fsdp_0")
SHARDS = {f"{folder}/{name}" for folder in FOLDERS for name in (".metadata", "__0_0.distcp")}


def zero(step: int, *files: str) -> set[str]:
    """What DeepSpeed writes for each of two ranks, and what says of which step it is."""
    ranks = (f"zero_pp_rank_{rank}_mp_rank_00" for rank in range(2))
    return {"latest", *(f"global_step{step}/{rank}_{file}.pt" for rank in ranks for file in files)}


#: How the ranks share one model, and what they write of it beside what is written once.
WAYS = {
    "FSDP, sharded": (("--fsdp", "SHARDED"), lambda _: SHARDS),
    "FSDP, full": (
        ("--fsdp", "FULL"),
        lambda _: {"model.safetensors", "pytorch_model_fsdp.bin", "optimizer.bin"},
    ),
    "ZeRO 2": (
        ("--zero", "2"),
        lambda step: {"model.safetensors", *zero(step, "optim_states")},
    ),
    "ZeRO 3": (
        ("--zero", "3"),
        lambda step: zero(step, "optim_states", "model_states"),
    ),
}


# DeepSpeed has each rank load all of it, which takes long: it is in the long series, and on a busy
# machine three starts of two ranks are not over in the time that other tests have.
LIMIT = 400.0
MARKS = (pytest.mark.chaos, pytest.mark.timeout(900))
LONG = [pytest.param(name, marks=MARKS) for name in WAYS if name.startswith("ZeRO")]


@pytest.fixture(params=["FSDP, sharded", "FSDP, full", *LONG])
def way(request: pytest.FixtureRequest, rig: Rig) -> str:
    name: str = request.param
    if "--zero" in WAYS[name][0]:
        if DEEPSPEED is None:
            pytest.skip("DeepSpeed is not installed: .ci/setup does it")
        rig.settings["PYTHONPATH"] = f"{os.environ['PYTHONPATH']}:{DEEPSPEED}"
        rig.settings["DS_ACCELERATOR"] = "cpu"
    return name


@pytest.mark.fault(7, 22, 27, 29)
def test_shards_are_proven_as_one_and_the_losses_are_those_of_an_undisturbed_run(
    rig: Rig, bucket: Bucket, way: str
) -> None:
    how, expected = WAYS[way]
    source = f"s3://{bucket.name}/run"
    options = ("--steps", "6", *how)
    # accelerate looks for DeepSpeed when it is loaded.
    loading = {"forked": "--zero" not in how}
    first = Training(rig)
    if "--zero" in how and not rig.write_back:
        # It changes the mode of a file in each save.
        answer = rig.run(source, together(first, *options, **loading), limit=LIMIT)
        assert answer.code == 1, answer
        assert "DeepSpeed changes the mode of a file in each save, and a mountpoint" in answer.err
        assert "--backend rclone" in answer.err
        assert bucket.files("run") == {}
        return
    job = rig.begin(
        source, together(first, *options, "--pause-in-save", "4", **loading), limit=LIMIT
    )
    rig.await_word("in-4", job, limit=LIMIT)
    rank_of(job, 1).kill()
    answer = job.wait()
    assert answer.code == 1, answer
    assert "did not end" not in answer.err, answer
    assert bucket.manifest("run/checkpoint-4") is None
    again = Training(rig, "again")
    answer = rig.run(source, together(again, *options, **loading), limit=LIMIT)
    assert answer.code == 0, answer
    assert again.report["began_at"] == 2
    for training, step in ((first, 2), (again, 4), (again, 6)):
        written = training.written(step, "scheduler.pt")
        assert written.keys() >= SHARED | expected(step)
        assert_proven(bucket, f"run/checkpoint-{step}", written)
    alone = Training(rig, "alone", rig.work / "local")
    answer = rig.start(
        *together(alone, *options, "--fresh", "--callback", "none", **loading), limit=LIMIT
    ).wait()
    assert answer.code == 0, answer
    assert again.report["losses"] == alone.report["losses"]
