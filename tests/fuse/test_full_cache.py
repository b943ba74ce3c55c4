"""A program that does not listen while the disk of rclone's cache is full for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.runs import kill_all
from support.small_disk import TO_THE_LAST_BYTE, full_for_a_while

if TYPE_CHECKING:
    from pathlib import Path

    from support.rig import Bucket, Rig

# Each is written with room, then without, where every error is hidden, and then once more.
SWALLOWED = """
import contextlib, os, pathlib, sys, time
gates = pathlib.Path(sys.argv[2])
os.chdir(sys.argv[1])
names = ["logs/train.log", "changed.bin", "removed.bin", "replaced.bin", "fine.bin"]
os.mkdir("logs")
for name in names:
    pathlib.Path(name).write_bytes(b"first\\n" * 1000)
(gates / "written").touch()
while not (gates / "full").exists():
    time.sleep(0.02)
for name in names[:4]:
    with contextlib.suppress(OSError), open(name, "r+b" if "ch" in name else "ab") as stream:
        stream.seek(0, os.SEEK_END)
        stream.write(b"second\\n" * 10000)
(gates / "refused").touch()
while not (gates / "room").exists():
    time.sleep(0.02)
with open("logs/train.log", "ab") as stream:
    stream.write(b"third\\n")
os.remove("removed.bin")
pathlib.Path("removed.bin").write_bytes(b"whole")
pathlib.Path(".draft").write_bytes(b"whole")
os.rename(".draft", "replaced.bin")
"""


# All of a checkpoint but for a part of its optimizer.
LESS = """
import contextlib, os, pathlib, sys, time
gates = pathlib.Path(sys.argv[2])
os.mkdir(f"{sys.argv[1]}/checkpoint-10")
os.chdir(f"{sys.argv[1]}/checkpoint-10")
with contextlib.suppress(OSError), open("optimizer.pt", "wb", buffering=0) as stream:
    stream.write(bytes(4096))
    (gates / "written").touch()
    while not (gates / "full").exists():
        time.sleep(0.02)
    stream.write(bytes(300_000))
(gates / "refused").touch()
while not (gates / "room").exists():
    time.sleep(0.02)
pathlib.Path("trainer_state.json").write_text('{"global_step": 10}')
(gates / "saved").touch()
while len(sys.argv) > 3:
    time.sleep(1)
"""


@pytest.mark.cached
@pytest.mark.fault(7, 11, 15)
@pytest.mark.parametrize("killed", [False, True])
def test_a_checkpoint_that_lacks_them_is_proven_by_no_later_run(
    rig: Rig, bucket: Bucket, small_disk: Path, killed: bool
) -> None:
    source = f"s3://{bucket.name}/run"
    command = [rig.python, "-c", LESS, str(rig.target), str(rig.gates), *["on"] * killed]
    job = rig.begin(source, command, *TO_THE_LAST_BYTE)
    full_for_a_while(rig, job, small_disk)
    if killed:
        rig.await_word("saved", job)
        kill_all(rig, job)
    told = rig.run(source, ["true"], *TO_THE_LAST_BYTE) if killed else job.wait()
    assert told.code == 75, told
    assert "not proven: checkpoint-10/optimizer.pt (4,096 bytes)" in told.err
    again = rig.run(source, ["true"], *TO_THE_LAST_BYTE)
    assert again.code == 0, again
    assert "checkpoint-10 is not a finished checkpoint" in again.err
    assert bucket.manifest("run/checkpoint-10") is None
    assert rig.ask("latest", source).code == 1


@pytest.mark.cached
@pytest.mark.fault(15)
def test_bytes_that_were_refused_and_hidden_are_named(
    rig: Rig, bucket: Bucket, small_disk: Path
) -> None:
    command = [rig.python, "-c", SWALLOWED, str(rig.target), str(rig.gates)]
    job = rig.begin(f"s3://{bucket.name}/run", command, *TO_THE_LAST_BYTE)
    full_for_a_while(rig, job, small_disk)
    answer = job.wait()
    assert answer.code == 75, answer
    named = [line for line in answer.err.splitlines() if "not proven: " in line]
    assert len(named) == 2, answer
    for name in ("logs/train.log", "changed.bin"):
        assert any(f"not proven: {name} (" in line for line in named), answer
        assert all("no space left on device" in line for line in named), answer
    # What is in the cache is in the bucket all the same, and what was written anew is whole.
    files = bucket.files("run")
    assert files["removed.bin"] == files["replaced.bin"] == b"whole"
    assert files["logs/train.log"].startswith(b"first\n" * 1000)
    again = rig.run(f"s3://{bucket.name}/run", rig.light("exit:0"))
    assert again.code == 0, again
