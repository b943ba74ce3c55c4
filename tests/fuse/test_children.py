"""Pythons below the command that come past mountkit's start-up hook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from support.rig import eventually

if TYPE_CHECKING:
    from support.rig import Answer, Bucket, Rig

# A checkpoint whose weights are saved by a Python that does not look at PYTHONPATH (-I), in a
# command that does not look at how that one ended.
CHECKPOINT = """
import os, subprocess, sys
from safetensors.torch import save_file
import torch
top, again = sys.argv[1] + "/checkpoint-5", sys.argv[2]
weights = {"a": torch.ones(1000)}
save = f'''
from safetensors.torch import save_file
import torch
save_file({{"a": torch.ones(1000)}}, {top + "/model.safetensors"!r})
'''
os.mkdir(top)
print(subprocess.run([sys.executable, "-I", "-c", save]).returncode)
if again:
    save_file(weights, top + "/model.safetensors")
for name in ("optimizer.pt", "scheduler.pt"):
    with open(f"{top}/{name}", "w") as stream:
        stream.write(name)
with open(top + "/trainer_state.json", "w") as stream:
    stream.write('{"global_step": 5}')
"""
WHOLE = {"model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"}


def saved(rig: Rig, bucket: Bucket, again: str) -> tuple[Answer, set[str]]:
    """How the command ended, and the files of its checkpoint in the bucket."""
    command = [rig.python, "-c", CHECKPOINT, str(rig.target), again]
    answer = rig.run(f"s3://{bucket.name}/run", command)
    return answer, set(bucket.files("run/checkpoint-5"))


@pytest.mark.fault(1, 50)
def test_weights_that_a_child_could_not_save_are_no_silent_zero(rig: Rig, bucket: Bucket) -> None:
    answer, found = saved(rig, bucket, "")
    if rig.write_back:
        assert (answer.code, found) == (0, WHOLE), answer
        return
    assert answer.out == "1\n", answer
    assert answer.code == 75, answer
    assert "not proven: checkpoint-5/model.safetensors" in answer.err
    assert ".tmp" in answer.err
    assert bucket.manifest("run/checkpoint-5") is None


@pytest.mark.fault(1, 50)
def test_what_it_left_behind_is_named_and_in_no_manifest(rig: Rig, bucket: Bucket) -> None:
    answer, found = saved(rig, bucket, "again")
    assert answer.code == 0, answer
    manifest = bucket.manifest("run/checkpoint-5")
    assert manifest is not None
    assert {entry["path"] for entry in manifest["files"]} == WHOLE
    left = found - WHOLE
    assert len(left) == (0 if rig.write_back else 1)
    for name in left:
        assert f"checkpoint-5/{name} is left over" in answer.err
        # As the message says; and the checkpoint is as whole as it was.
        bucket.remove(f"run/checkpoint-5/{name}")
    verified = rig.ask("verify", f"s3://{bucket.name}/run/checkpoint-5")
    assert verified.code == 0, verified


# The API instead of the command: what it hands on ends with its block.
SPAWNED = """
import multiprocessing, os, shutil, sys
import mountkit

def work(top):
    from safetensors.torch import save_file
    import torch
    os.makedirs(top + "/old")
    save_file({"a": torch.ones(1000)}, top + "/old/model.safetensors")
    shutil.copyfile(top + "/old/model.safetensors", top + "/model.safetensors")
    shutil.rmtree(top + "/old")

if __name__ == "__main__":
    source, target, endpoint, backend = sys.argv[1:]
    os.environ["PYTHONPATH"] += ":/mine"
    before = dict(os.environ)
    with mountkit.mount(source, target, endpoint_url=endpoint, backend=backend) as mount:
        child = multiprocessing.get_context("spawn").Process(target=work, args=(mount.path,))
        child.start()
        child.join()
        assert child.exitcode == 0
    assert dict(os.environ) == before
"""


@pytest.mark.fault(50)
def test_a_child_that_is_spawned_within_a_mount_of_python(rig: Rig, bucket: Bucket) -> None:
    script = rig.work / "spawned.py"
    script.write_text(SPAWNED)
    place = [f"s3://{bucket.name}/run", str(rig.target), rig.server.endpoint_url, rig.backend]
    answer = rig.start(rig.python, script, *place).wait()
    assert answer.code == 0, answer
    assert set(bucket.files("run")) == {"model.safetensors"}


# It has nothing open when the command ends, and writes when nothing is mounted any more.
IDLE = """
import os, sys, time
target, gates = sys.argv[1:]
open(target + "/first", "w").write("first")
if os.fork() == 0:
    os.setsid()
    open(gates + "/pid", "w").write(str(os.getpid()))
    until = time.monotonic() + 90
    while time.monotonic() < until and not os.path.exists(gates + "/enough"):
        time.sleep(0.05)
    os._exit(0)
while not os.path.exists(gates + "/pid"):
    time.sleep(0.01)
"""


@pytest.mark.fault(50)
def test_what_the_command_left_behind_is_told(rig: Rig, bucket: Bucket) -> None:
    command = [rig.python, "-c", IDLE, str(rig.target), str(rig.gates)]
    answer = rig.run(f"s3://{bucket.name}/run", command)
    (rig.gates / "enough").touch()
    pid = int((rig.gates / "pid").read_text())
    eventually(lambda: not psutil.pid_exists(pid), "the end of the child")
    assert answer.code == 0, answer
    assert f"left behind what still runs: process {pid} (" in answer.err
    assert bucket.files("run") == {"first": b"first"}
