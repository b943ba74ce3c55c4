"""A file that replaced an older one is removed or moved on before it was uploaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

pytestmark = pytest.mark.cached

FIRST = """
import os, sys
os.chdir(sys.argv[1])
os.makedirs("tree", exist_ok=True)
os.makedirs("beside", exist_ok=True)
for name in ("removed", "moved", "kept", "tree/below", "again", "twice", "beside/it"):
    with open(name, "w") as stream:
        stream.write("first " + name)
"""
SECOND = """
import os, shutil, sys
os.chdir(sys.argv[1])
for name in ("removed", "moved", "kept", "tree/below", "again", "twice", "twice", "beside/it"):
    with open("draft", "w") as stream:
        stream.write("second " + name)
    os.replace("draft", name)
os.remove("removed")
os.remove("twice")
# A folder without a file is only rclone's own, and keeps what it knows of the one above.
os.remove("beside/it")
os.makedirs("beside/empty")
# The proof of a checkpoint has the folder that it lies in read anew.
os.makedirs("checkpoint-5")
for name in ("model.safetensors", "trainer_state.json"):
    with open("checkpoint-5/" + name, "w") as stream:
        stream.write('{"global_step": 5}')
os.rename("moved", "elsewhere")
shutil.rmtree("tree")
os.remove("again")
with open("again", "w") as stream:
    stream.write("third again")
"""
THIRD = """
import os, sys
os.chdir(sys.argv[1])
os.remove("removed")
os.remove("moved")
os.remove("tree/below")
os.remove("twice")
os.remove("beside/it")
"""


@pytest.mark.fault(44, 45)
def test_what_it_replaced_does_not_come_back_unsaid(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    first = rig.run(source, [rig.python, "-c", FIRST, str(rig.target)])
    assert first.code == 0, first
    second = rig.run(source, [rig.python, "-c", SECOND, str(rig.target)])
    assert second.code == 75, second
    named = {line for line in second.err.splitlines() if "not proven: " in line}
    back = {"removed", "moved", "tree/below", "twice", "beside/it"}
    assert {line.split("not proven: ")[1].split(" (")[0] for line in named} == back, second
    now = {
        "elsewhere": b"second moved",
        "kept": b"second kept",
        "again": b"third again",
        "checkpoint-5/model.safetensors": b'{"global_step": 5}',
        "checkpoint-5/trainer_state.json": b'{"global_step": 5}',
    }
    assert {path: bucket.files("run")[path] for path in now} == now
    # What was said to do helps, and nothing is named any more.
    third = rig.run(source, [rig.python, "-c", THIRD, str(rig.target)])
    assert third.code == 0, third
    assert bucket.files("run") == now
