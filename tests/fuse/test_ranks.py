"""Several processes that train together: one checkpoint of all of them, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.installed import needs
from support.training import Training

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

needs("transformers", "torch")

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def together(training: Training, *options: str) -> list[str]:
    """The training in two processes."""
    python, *words = training.from_the_start("--save-steps", "2", *options)
    return [python, *TORCHRUN, *words]


@pytest.mark.fault(4, 20, 27)
def test_two_ranks_have_one_manifest_with_the_files_of_both(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    training = Training(rig)
    answer = rig.run(source, together(training, "--steps", "6", "--limit", "2"), limit=200)
    assert answer.code == 0, answer
    # The callback proved them; the drain would have mended it at the end.
    assert set(training.report["proven"]) == {"2", "4", "6"}, answer
    for step in (4, 6):
        manifest = bucket.manifest(f"run/checkpoint-{step}")
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= {
            file["path"] for file in manifest["files"]
        }
        training.assert_proven(bucket, step)
    assert bucket.everything("run/checkpoint-2") == {}
