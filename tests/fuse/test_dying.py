"""A daemon that dies, a supervisor that dies, a mount that cannot be repaired."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

import psutil
import pytest
from light import checkpoint

from mountkit.names import PROBE_NAME
from support.assertions import assert_proven
from support.proxy import Fault
from support.rig import assert_same, eventually

if TYPE_CHECKING:
    from support.proxy import Request
    from support.rig import Bucket, Rig


@pytest.mark.fault(6)
def test_a_daemon_killed_between_two_saves_costs_nothing(rig: Rig, bucket: Bucket) -> None:
    command = rig.light("save:10", "say:between", "wait:go", "save:20")
    job = rig.begin(f"s3://{bucket.name}/run", command)
    rig.await_word("between", job)
    rig.kill(rig.daemon())
    rig.await_remount()
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert_proven(bucket, "run/checkpoint-20", checkpoint(20))
    assert "mounted again" in answer.err


@pytest.mark.cached
@pytest.mark.fault(6, 13)
def test_files_that_waited_in_the_cache_of_a_killed_daemon_reach_the_bucket(
    rig: Rig, bucket: Bucket
) -> None:
    command = rig.light("save:10", "say:between", "wait:go")
    job = rig.begin(f"s3://{bucket.name}/run", command, *rig.late)
    rig.await_word("between", job)
    assert bucket.everything("run") == {}, "something was uploaded before it was pushed"
    rig.kill(rig.daemon())
    rig.await_remount()
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(5, 6)
def test_a_daemon_killed_when_the_command_is_over_costs_nothing(rig: Rig, bucket: Bucket) -> None:
    gate = rig.gate()
    command = rig.light("save:10", "say:saved", "wait:go")
    job = rig.begin(f"s3://{bucket.name}/run", command, *rig.late, endpoint=gate.url)
    rig.await_word("saved", job)
    # The drain cannot end before the store is back, and by then its daemon is another one.
    gate.shut()
    rig.say("go")
    eventually(lambda: "making sure" in job.err, "draining")
    rig.kill(rig.daemon())
    gate.open()
    answer = job.wait()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(6)
def test_a_daemon_killed_again_and_again(rig: Rig, bucket: Bucket) -> None:
    steps = [10, 20, 30]
    actions = [f for n in steps for f in (f"save:{n}", f"say:at-{n}", f"wait:go-{n}")]
    job = rig.begin(f"s3://{bucket.name}/run", rig.light(*actions), *rig.late)
    for count, step in enumerate(steps, 1):
        rig.await_word(f"at-{step}", job)
        if not rig.write_back:
            # Of an empty file Mountpoint begins the upload after its close.
            place = f"run/checkpoint-{step}"
            eventually(lambda place=place: "empty.bin" in bucket.arrived(place), "there")
        rig.kill(rig.daemon())
        rig.await_remount(count)
        rig.say(f"go-{step}")
    answer = job.wait()
    assert answer.code == 0, answer
    for step in steps:
        assert_proven(bucket, f"run/checkpoint-{step}", checkpoint(step))


@pytest.mark.fault(6)
def test_a_mount_that_somebody_unmounts_comes_back(rig: Rig, bucket: Bucket) -> None:
    command = rig.light("save:10", "say:between", "wait:go", "save:20")
    job = rig.begin(f"s3://{bucket.name}/run", command, *rig.late)
    rig.await_word("between", job)
    assert rig.start("fusermount3", "-u", "-z", rig.target).wait().code == 0
    rig.await_remount()
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert_proven(bucket, "run/checkpoint-20", checkpoint(20))


def test_a_mount_that_cannot_be_repaired_is_given_up_in_the_end(rig: Rig, bucket: Bucket) -> None:
    program, path = rig.place_program()
    rig.settings["MOUNTKIT_REMOUNT_ATTEMPTS"] = "2"
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    rig.settings["MOUNTKIT_REPAIR_TIMEOUT"] = "3"
    command = rig.light("save:10", "say:saved", "wait:go")
    job = rig.begin(f"s3://{bucket.name}/run", command, *rig.late, PATH=path, limit=90)
    rig.await_word("saved", job)
    program.unlink()
    rig.kill(rig.daemon())
    eventually(lambda: "cannot be repaired" in job.err, "given up")
    rig.say("go")
    answer = job.wait()
    assert "2 attempts failed" in answer.err
    if not rig.write_back:
        # All of it had been uploaded when it was closed.
        assert answer.code == 0, answer
        assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
        return
    assert answer.code == 75, answer
    assert "checkpoint-10/model.safetensors" in answer.err
    assert "wait" in answer.err or "cache" in answer.err

    # What it could not upload was kept, and the next run brings it.
    rig.put_program(program)
    again = rig.run(f"s3://{bucket.name}/run", rig.light("exit:0"), PATH=path)
    assert again.code == 0, again
    assert_same(bucket.files("run/checkpoint-10"), checkpoint(10))


@pytest.mark.fault(6)
def test_with_the_store_gone_as_well_the_run_ends_with_75(rig: Rig, bucket: Bucket) -> None:
    gate = rig.gate()
    rig.settings["MOUNTKIT_REMOUNT_ATTEMPTS"] = "2"
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    rig.settings["MOUNTKIT_MOUNT_TIMEOUT"] = "5"
    command = rig.light("save:10", "say:saved", "wait:go")
    job = rig.begin(f"s3://{bucket.name}/run", command, *rig.late, endpoint=gate.url, limit=110)
    rig.await_word("saved", job)
    gate.shut()
    rig.kill(rig.daemon())
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "checkpoint-10/" in answer.err


@pytest.mark.fault(9, 37)
def test_a_leftover_of_ours_is_repaired_and_its_files_reach_the_bucket(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    assert rig.mount(source, *rig.late).code == 0
    rig.script("save:10")
    daemon = rig.daemon()
    rig.kill(rig.supervisor())
    rig.kill(daemon)
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.statvfs(rig.target)
    status = rig.mountkit("status", rig.target, "--format", "json")
    assert status.code == 69, status
    assert [mount["state"] for mount in status.json["mounts"]] == ["broken"]
    waiting = len(checkpoint(10)) if rig.write_back else 0
    assert status.json["mounts"][0]["pending_files"] == waiting

    again = rig.mount(source, *rig.late)
    assert again.code == 0, again
    ended = rig.umount()
    assert ended.code == 0, ended
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(9, 37)
def test_a_run_over_a_leftover_of_ours_repairs_it(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    job = rig.begin(source, rig.light("save:10", "say:saved", "wait:go"), *rig.late)
    rig.await_word("saved", job)
    daemon = rig.daemon()
    job.process.kill()
    job.process.wait()
    # Its supervisor died with it; the daemon serves on, and the command goes on.
    assert daemon.is_running()
    rig.say("go")
    eventually(lambda: not [p for p in rig.processes() if "light.py" in rig.words(p)], "ended")
    answer = rig.run(source, rig.light("save:20"), *rig.late)
    assert answer.code == 0, answer
    assert_same(bucket.files("run/checkpoint-10"), checkpoint(10))
    assert_proven(bucket, "run/checkpoint-20", checkpoint(20))
    with contextlib.suppress(psutil.NoSuchProcess):
        # Where nobody reaps orphans it stays a zombie.
        assert daemon.status() == psutil.STATUS_ZOMBIE


@pytest.mark.fault(37)
def test_a_mount_without_its_supervisor_is_drained_by_umount(rig: Rig, bucket: Bucket) -> None:
    assert rig.mount(f"s3://{bucket.name}/run", *rig.late).code == 0
    rig.script("save:10")
    rig.kill(rig.supervisor())
    answer = rig.umount()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert rig.mounts() == []


@pytest.mark.uncached
@pytest.mark.fault(9, 37)
@pytest.mark.parametrize("then", ["umount", "run"])
def test_a_supervisor_killed_before_its_mount_serves_leaves_one_that_is_known(
    rig: Rig, bucket: Bucket, then: str
) -> None:
    proxy = rig.proxy()
    source = f"s3://{bucket.name}/run"
    held = threading.Event()

    def hold(request: Request) -> Fault | None:
        # What the mount uploads to see that it can; the first look's own has another name.
        if PROBE_NAME in request.key and rig.mounts():
            held.set()
            return Fault(503, "SlowDown", delay=1.0)
        return None

    proxy.rule = hold
    job = rig.begin(source, rig.light("save:10"), endpoint=proxy.url)
    assert held.wait(60)
    rig.kill(psutil.Process(job.process.pid))
    job.process.wait()
    proxy.rule = lambda _: None
    assert rig.mounts() == [str(rig.target)]
    if then == "umount":
        answer = rig.umount("--discard")
    else:
        answer = rig.run(source, rig.light("save:20"), endpoint=proxy.url)
        assert_proven(bucket, "run/checkpoint-20", checkpoint(20))
    assert answer.code == 0, answer
    assert rig.mounts() == []


@pytest.mark.fault(9, 37)
def test_whoever_stands_in_a_dead_mount_is_told_of_it_and_can_unmount_it(
    rig: Rig, bucket: Bucket
) -> None:
    assert rig.mount(f"s3://{bucket.name}/run").code == 0
    status = rig.standing(rig.target, "status", rig.target)
    umount = rig.standing(rig.target, "umount", ".")
    daemon = rig.daemon()
    rig.kill(rig.supervisor())
    rig.kill(daemon)
    told = status()
    assert told.code == 69, told
    assert "broken" in told.out
    ended = umount()
    assert ended.code == 0, ended
    assert rig.mounts() == []
    assert rig.record() is None
