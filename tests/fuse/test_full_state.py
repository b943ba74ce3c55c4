"""The disk of a daemon's log is full for a while, which is all that tells of what it refused."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.small_disk import TO_THE_LAST_BYTE, fill

if TYPE_CHECKING:
    from pathlib import Path

    from support.rig import Bucket, Rig

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


@pytest.mark.uncached
@pytest.mark.fault(15, 46)
def test_what_it_could_not_tell_of_is_not_passed_over(rig: Rig, bucket: Bucket) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")
    rig.state.mkdir(mode=0o700)
    words = ["mount", "-t", "tmpfs", "-o", "size=1M,mode=700", "mountkit-test", str(rig.state)]
    subprocess.run(words, check=True)
    try:
        source = f"s3://{bucket.name}/run"
        program = [rig.python, "-c", SWALLOWED, str(rig.target), str(rig.gates)]
        job = rig.begin(source, program)
        rig.await_word("written", job)
        filler = fill(rig.state)
        rig.say("full")
        rig.await_word("refused", job)
        filler.unlink()
        rig.say("room")
        answer = job.wait()
        assert answer.code == 75, answer
        assert "daemon.log" in answer.err
        assert "it lacks lines" in answer.err
        again = rig.run(source, rig.light("exit:0"))
        assert again.code == 0, again
        assert bucket.manifest("run/checkpoint-10") is None
    finally:
        subprocess.run(["umount", "--lazy", str(rig.state)], check=True)


@pytest.mark.cached
@pytest.mark.fault(15)
def test_so_it_is_where_one_disk_holds_all(rig: Rig, bucket: Bucket, small_disk: Path) -> None:
    source, state = f"s3://{bucket.name}/run", {"MOUNTKIT_STATE_DIR": f"{small_disk}/state"}
    program = [rig.python, "-c", SWALLOWED, str(rig.target), str(rig.gates)]
    job = rig.begin(source, program, *TO_THE_LAST_BYTE, **state)
    rig.await_word("written", job)
    filler = fill(small_disk)
    rig.say("full")
    rig.await_word("refused", job)
    filler.unlink()
    rig.say("room")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "it lacks lines" in answer.err
    again = rig.run(source, rig.light("exit:0"), *TO_THE_LAST_BYTE, **state)
    assert again.code == 0, again
    assert bucket.manifest("run/checkpoint-10") is None


@pytest.mark.cached
@pytest.mark.fault(15, 40)
def test_a_mount_in_the_background_is_taken_away_all_the_same(
    rig: Rig, bucket: Bucket, small_disk: Path
) -> None:
    rig.settings["MOUNTKIT_STATE_DIR"] = f"{small_disk}/state"
    mounted = rig.mount(f"s3://{bucket.name}/run", *TO_THE_LAST_BYTE)
    assert mounted.code == 0, mounted
    job = rig.start(rig.python, "-c", SWALLOWED, rig.target, rig.gates)
    rig.await_word("written", job)
    filler = fill(small_disk)
    rig.say("full")
    rig.await_word("refused", job)
    filler.unlink()
    rig.say("room")
    assert job.wait().code == 0
    for name in range(40):
        (rig.target / f"train-{name}.log").unlink()
    told = rig.umount()
    assert told.code == 75, told
    assert "it lacks lines" in told.err
    assert "The mount is gone by now" in told.err
    assert not os.path.ismount(rig.target)
