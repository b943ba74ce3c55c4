"""Directory trees are removed in a mount as on a disk, whatever a directory is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import preloaded
from support.installed import needs
from support.rig import SCRIPTS

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

# accelerate's own rotation: it removes the oldest before the third one is saved.
ROTATED = """
import os, sys
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
import torch
how = ProjectConfiguration(sys.argv[1], automatic_checkpoint_naming=True, total_limit=2)
accelerator = Accelerator(cpu=True, project_config=how)
model = accelerator.prepare(torch.nn.Linear(4, 4))
for turn in range(3):
    accelerator.save_state()
print(sorted(os.listdir(sys.argv[1] + "/checkpoints")))
"""

# The function was imported before there was a mount, and is used within and after it.
WITH_API = """
import os, sys
from os.path import exists
from shutil import rmtree
import mountkit
source, target, endpoint, backend, local = sys.argv[1:]
rmdir = os.rmdir
with mountkit.mount(source, target, endpoint_url=endpoint, backend=backend) as mount:
    for top in (mount.path, local):
        os.makedirs(top + "/tree/inner")
        with open(top + "/tree/inner/file", "w") as stream:
            stream.write("x")
        rmtree(top + "/tree")
        assert not exists(top + "/tree")
assert os.rmdir is rmdir
assert rmdir in os.supports_dir_fd
"""

SHELL = """
cd "$1" || exit 9
mkdir -p tree/inner && echo x > tree/inner/file && rm -rf tree && test ! -e tree
echo "forced: $?"
mkdir -p tree/inner && echo x > tree/inner/file && rm -r tree
echo "plain: $?"
"""


@pytest.mark.fault(49)
def test_every_way_that_python_has(rig: Rig, bucket: Bucket) -> None:
    (rig.work / "local").mkdir()
    command = [rig.python, str(SCRIPTS / "removing.py"), str(rig.target), str(rig.work / "local")]
    answer = rig.run(f"s3://{bucket.name}/run", command)
    assert answer.code == 0, answer
    assert {way: said for way, said in answer.json["ways"].items() if said} == {}
    assert answer.json["refusals"] == {
        "never": "FileNotFoundError",
        "never, a tree": "FileNotFoundError",
        "twice": "FileNotFoundError",
        # Mountpoint does not say that it is not empty.
        "full": "OSError" if rig.write_back else "PermissionError",
        "a file": "NotADirectoryError",
    }
    assert bucket.files("run") == {"refused/full/kept": b"kept"}


@pytest.mark.fault(49)
def test_the_states_of_accelerate(rig: Rig, bucket: Bucket) -> None:
    needs("accelerate")
    command = preloaded.program(rig.python, rig.work, ROTATED, [str(rig.target)])
    answer = rig.run(f"s3://{bucket.name}/run", command)
    assert answer.code == 0, answer
    assert "['checkpoint_1', 'checkpoint_2']" in answer.out
    saved = bucket.files("run/checkpoints")
    assert {path.partition("/")[0] for path in saved} == {"checkpoint_1", "checkpoint_2"}
    assert saved["checkpoint_2/model.safetensors"]


@pytest.mark.fault(49)
def test_within_a_mount_of_python_and_no_longer(rig: Rig, bucket: Bucket) -> None:
    (rig.work / "local").mkdir()
    place = [f"s3://{bucket.name}/run", str(rig.target), rig.server.endpoint_url, rig.backend]
    answer = rig.start(rig.python, "-c", WITH_API, *place, rig.work / "local").wait()
    assert answer.code == 0, answer
    assert bucket.files("run") == {}


def test_what_a_shell_hears(rig: Rig, bucket: Bucket) -> None:
    command = ["sh", "-c", SHELL, "sh", str(rig.target)]
    answer = rig.run(f"s3://{bucket.name}/run", command)
    assert answer.code == 0, answer
    refused = "" if rig.write_back else "No such file or directory"
    assert answer.out == f"forced: 0\nplain: {1 if refused else 0}\n"
    assert refused in answer.err
    assert bucket.files("run") == {}
