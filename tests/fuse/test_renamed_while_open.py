"""Files that get their name while they are still open, as safetensors and many others save."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

PROGRAM = """
import os, pathlib, random, sys, time
top = pathlib.Path(sys.argv[1])
random.seed(sys.argv[2])
for number in range(60):
    folder = top / f"saves-{random.randrange(4)}"
    folder.mkdir(exist_ok=True)
    draft = folder / f".tmp{number:06}"
    with draft.open("wb", buffering=0) as stream:
        stream.write(os.urandom(random.choice([0, 10, 5000, 200000])))
        if random.random() < 0.3:
            os.fsync(stream.fileno())
        draft.rename(folder / random.choice(["model.safetensors", "optimizer.pt"]))
    (folder / "state.json").write_text("x" * random.randrange(100))
    time.sleep(random.choice([0, 0, 0.02, 0.1, 0.3]))
"""


@pytest.mark.chaos
@pytest.mark.fault(44)
@pytest.mark.parametrize("backend", ["rclone"], indirect=True)
@pytest.mark.parametrize("seed", range(8))
def test_saves_over_saves_that_are_just_being_uploaded(rig: Rig, bucket: Bucket, seed: int) -> None:
    source = f"s3://{bucket.name}/run"
    for again in range(3):
        answer = rig.run(source, (rig.python, "-c", PROGRAM, rig.target, f"{seed}-{again}"))
        assert answer.code == 0, answer
        assert not [name for name in bucket.files("run") if ".tmp" in name], answer
