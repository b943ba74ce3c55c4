"""A file that replaced an older one is removed or moved on before it was uploaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rig import Bucket, Rig

pytestmark = pytest.mark.cached

FIRST = """
import os, sys
os.chdir(sys.argv[1])
os.makedirs("tree", exist_ok=True)
for name in ("removed", "moved", "kept", "tree/below", "again"):
    with open(name, "w") as stream:
        stream.write("first " + name)
"""
SECOND = """
import os, shutil, sys
os.chdir(sys.argv[1])
for name in ("removed", "moved", "kept", "tree/below", "again"):
    with open("draft", "w") as stream:
        stream.write("second " + name)
    os.replace("draft", name)
os.remove("removed")
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
"""


@pytest.mark.fault(44, 45)
def test_what_it_replaced_does_not_come_back_unsaid(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    first = rig.run(source, [rig.python, "-c", FIRST, str(rig.target)])
    assert first.code == 0, first
    second = rig.run(source, [rig.python, "-c", SECOND, str(rig.target)])
    assert second.code == 75, second
    named = {line for line in second.err.splitlines() if "not proven: " in line}
    for path in ("removed", "moved", "tree/below"):
        assert any(f"not proven: {path} " in line for line in named), second
    assert len(named) == 3, second
    now = {"elsewhere": b"second moved", "kept": b"second kept", "again": b"third again"}
    assert {path: bucket.files("run")[path] for path in now} == now
    # What was said to do helps, and nothing is named any more.
    third = rig.run(source, [rig.python, "-c", THIRD, str(rig.target)])
    assert third.code == 0, third
    assert bucket.files("run") == now
