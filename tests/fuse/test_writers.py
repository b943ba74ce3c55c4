"""Writers that are not a save: logs that are appended to, and processes that write on too long."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from mountkit import backends
from support.rig import eventually

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

APPEND = """
import sys
path = sys.argv[1] + "/training.log"
for line in sys.argv[2:]:
    with open(path, "a") as stream:
        stream.write(line + "\\n")
"""

# The command ends well and leaves a child that goes on writing into the mount.
ORPHAN = """
import os, sys, time
target = sys.argv[1]
open(target + "/first", "w").write("first")
if os.fork() == 0:
    open(sys.argv[2] + "/pid", "w").write(str(os.getpid()))
    for number in range(1000):
        if os.path.exists(sys.argv[2] + "/enough"):
            break
        try:
            with open(f"{target}/late-{number}", "w") as stream:
                stream.write("late")
        except OSError:
            break
        time.sleep(0.05)
    os._exit(0)
"""

LEFT_OPEN = """
import os, sys, time
stream = open(sys.argv[1] + "/training.log", "w")
stream.write("a line")
stream.flush()
if os.fork() == 0:
    open(sys.argv[2] + "/pid", "w").write(str(os.getpid()))
    until = time.monotonic() + 120
    while time.monotonic() < until and not os.path.exists(sys.argv[2] + "/enough"):
        time.sleep(0.05)
    os._exit(0)
"""

EXIT_ZERO = """
import sys, mountkit
source, target, endpoint, backend = sys.argv[1:]
with mountkit.mount(source, target, endpoint_url=endpoint, backend=backend) as mount:
    with open(mount.path + "/strange\\nname", "w") as stream:
        stream.write("cannot be proven")
    sys.exit(0)
"""


def test_a_log_is_appended_to_in_one_run_and_in_the_next(rig: Rig, bucket: Bucket) -> None:
    for lines in (["one", "two"], ["three"]):
        command = [sys.executable, "-c", APPEND, str(rig.target), *lines]
        answer = rig.run(f"s3://{bucket.name}/run", command)
        if "append" in backends.load(rig.backend).unsupported_operations:
            # Then the program hears of it; nothing is lost in silence.
            assert answer.code == 1, answer
            assert "Operation not permitted" in answer.err
            return
        assert answer.code == 0, answer
    assert bucket.everything("run") == {"training.log": b"one\ntwo\nthree\n"}


@pytest.mark.fault(4, 40)
def test_a_child_that_writes_on_is_no_silent_zero(rig: Rig, bucket: Bucket) -> None:
    command = [sys.executable, "-c", ORPHAN, str(rig.target), str(rig.gates)]
    answer = rig.run(f"s3://{bucket.name}/run", command)
    (rig.gates / "enough").touch()
    pid = int((rig.gates / "pid").read_text())
    eventually(lambda: not psutil.pid_exists(pid), "the end of the child")
    assert answer.code == 75, answer
    assert "late-" in str(answer)
    assert bucket.everything("run")["first"] == b"first"


@pytest.mark.fault(14)
def test_a_file_that_is_left_open_is_named(rig: Rig, bucket: Bucket) -> None:
    command = [sys.executable, "-c", LEFT_OPEN, str(rig.target), str(rig.gates)]
    answer = rig.run(f"s3://{bucket.name}/run", command, MOUNTKIT_STALL_TIMEOUT="3")
    (rig.gates / "enough").touch()
    pid = int((rig.gates / "pid").read_text())
    eventually(lambda: not psutil.pid_exists(pid), "the end of the child")
    if answer.code == 0:
        # The end of the program that opened it was the end of the file, whoever else holds it.
        assert not rig.write_back
        assert bucket.files("run") == {"training.log": b"a line"}
        return
    assert answer.code == 75, answer
    assert "training.log" in str(answer)


def test_sys_exit_0_in_the_block_does_not_hide_what_is_not_proven(rig: Rig, bucket: Bucket) -> None:
    place = [f"s3://{bucket.name}/run", str(rig.target), rig.server.endpoint_url, rig.backend]
    answer = rig.start(sys.executable, "-c", EXIT_ZERO, *place).wait()
    assert answer.code != 0, answer
    assert "not proven" in str(answer)
