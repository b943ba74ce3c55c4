"""The disk of a daemon's log is full for a while, which is all that tells of what it refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from support.small_disk import TO_THE_LAST_BYTE, full_for_a_while

if TYPE_CHECKING:
    from pathlib import Path

    from support.rig import Bucket, Job, Rig

# A checkpoint's optimizer comes last, when the log has no room for what is told of it.
SWALLOWED = """
import contextlib, pathlib, sys, time
top, gates = map(pathlib.Path, sys.argv[1:])
checkpoint = top / "checkpoint-10"
checkpoint.mkdir()
files = [*(top / f"train-{number}.log" for number in range(40)), checkpoint / "optimizer.pt"]
for file in files:
    file.write_bytes(b"first")
(gates / "written").touch()
while not (gates / "full").exists():
    time.sleep(0.02)
for file in files:
    with contextlib.suppress(OSError), file.open("ab") as stream:
        stream.write(b"second" * 2000)
(gates / "refused").touch()
while not (gates / "room").exists():
    time.sleep(0.02)
(checkpoint / "trainer_state.json").write_text('{"global_step": 10}')
"""


def named_and_proven_by_nobody(rig: Rig, bucket: Bucket, job: Job, *options: str) -> None:
    answer = job.wait()
    assert answer.code == 75, answer
    assert "daemon.log" in answer.err
    assert "it lacks lines" in answer.err
    again = rig.run(f"s3://{bucket.name}/run", rig.light("exit:0"), *options)
    assert again.code == 0, again
    assert bucket.manifest("run/checkpoint-10") is None


def program(rig: Rig) -> list[str]:
    return [rig.python, "-c", SWALLOWED, str(rig.target), str(rig.gates)]


@pytest.mark.uncached
@pytest.mark.fault(15, 46)
def test_what_it_could_not_tell_of_is_not_passed_over(
    rig: Rig, bucket: Bucket, small_state: Path
) -> None:
    job = rig.begin(f"s3://{bucket.name}/run", program(rig))
    full_for_a_while(rig, job, small_state)
    named_and_proven_by_nobody(rig, bucket, job)


@pytest.mark.cached
@pytest.mark.fault(15)
def test_so_it_is_where_one_disk_holds_all(rig: Rig, bucket: Bucket, small_disk: Path) -> None:
    rig.settings["MOUNTKIT_STATE_DIR"] = f"{small_disk}/state"
    job = rig.begin(f"s3://{bucket.name}/run", program(rig), *TO_THE_LAST_BYTE)
    full_for_a_while(rig, job, small_disk)
    named_and_proven_by_nobody(rig, bucket, job, *TO_THE_LAST_BYTE)


@pytest.mark.cached
@pytest.mark.fault(15, 40)
def test_a_mount_in_the_background_is_taken_away_all_the_same(
    rig: Rig, bucket: Bucket, small_disk: Path
) -> None:
    rig.settings["MOUNTKIT_STATE_DIR"] = f"{small_disk}/state"
    mounted = rig.mount(f"s3://{bucket.name}/run", *TO_THE_LAST_BYTE)
    assert mounted.code == 0, mounted
    job = rig.start(*program(rig))
    full_for_a_while(rig, job, small_disk)
    assert job.wait().code == 0
    for number in range(40):
        (rig.target / f"train-{number}.log").unlink()
    told = rig.umount()
    assert told.code == 75, told
    assert "it lacks lines" in told.err
    assert "The mount is gone by now" in told.err
    assert not os.path.ismount(rig.target)
