"""A daemon that hangs is seen, ended and replaced; nobody waits for ever."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import psutil
import pytest
from light import checkpoint

from mountkit.supervision.probe_child import TICK_SECONDS, TURN_SECONDS
from support.assertions import assert_proven
from support.rig import await_turns, prober
from support.runs import with_api

if TYPE_CHECKING:
    from support.rig import Bucket, Rig


@pytest.mark.fault(8)
def test_a_daemon_stopped_between_two_saves_costs_nothing(rig: Rig, bucket: Bucket) -> None:
    command = rig.light("save:10", "say:between", "wait:go", "save:20")
    job = rig.begin(f"s3://{bucket.name}/run", command, *rig.late)
    rig.await_word("between", job)
    rig.daemon().send_signal(signal.SIGSTOP)
    # Whoever asks in the meantime is answered once it is repaired.
    listing = rig.start("ls", rig.target)
    rig.await_remount()
    assert listing.wait().code in {0, 2}
    assert rig.start("ls", rig.target).wait().code == 0
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    assert "daemon is stopped" in answer.err
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert_proven(bucket, "run/checkpoint-20", checkpoint(20))


@pytest.mark.fault(8)
def test_a_training_that_keeps_its_own_supervisor_from_running_is_freed(
    rig: Rig, bucket: Bucket
) -> None:
    # The script has to be in its call by then, or the supervisor can run.
    rig.settings["MOUNTKIT_PROBE_TIMEOUT"] = "3"
    job = rig.start(*with_api(rig, bucket, "hold"))
    rig.await_word("written", job)
    daemon = rig.daemon()
    daemon.send_signal(signal.SIGSTOP)
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    assert answer.json["native"] in {"ENOTCONN", "ECONNABORTED"}, answer
    assert answer.json["error"] is None, answer
    assert {"MountLost hung", "Remounted hung"} <= set(answer.json["events"]), answer
    assert bucket.manifest("run/checkpoint-10") is not None, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(8)
def test_one_that_is_stopped_itself_costs_its_daemon_nothing(rig: Rig, bucket: Bucket) -> None:
    rig.settings["MOUNTKIT_PROBE_TIMEOUT"] = "1"
    job = rig.start(*with_api(rig, bucket, "pause"))
    rig.await_word("written", job)
    daemon = rig.daemon()
    helper = prober(job)
    job.process.send_signal(signal.SIGSTOP)
    daemon.send_signal(signal.SIGSTOP)
    # It has looked for longer than a training may keep its own supervisor from running.
    await_turns(helper, (1 + TURN_SECONDS + 3) / TICK_SECONDS)
    assert daemon.status() == psutil.STATUS_STOPPED
    daemon.send_signal(signal.SIGCONT)
    job.process.send_signal(signal.SIGCONT)
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    assert answer.json["error"] is None, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(8, 37)
def test_a_mount_whose_supervisor_was_killed_is_adopted(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    assert rig.mount(source, *rig.late).code == 0
    rig.script("save:10")
    daemon = rig.daemon()
    rig.kill(rig.supervisor())
    again = rig.mount(source, *rig.late)
    assert again.code == 0, again
    assert rig.daemon().pid == daemon.pid
    rig.script("save:20")
    # It is watched again.
    daemon.send_signal(signal.SIGSTOP)
    rig.await_remount()
    rig.script("save:30")
    ended = rig.umount()
    assert ended.code == 0, ended
    for step in (10, 20, 30):
        assert_proven(bucket, f"run/checkpoint-{step}", checkpoint(step))


@pytest.mark.fault(4, 37)
def test_an_adopted_mount_that_is_unmounted_from_outside_is_no_silent_zero(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    assert rig.mount(source).code == 0
    rig.kill(rig.supervisor())
    job = rig.begin(source, rig.light("say:up", "wait:go", "save:10"))
    rig.await_word("up", job)
    assert rig.umount().code == 0
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "checkpoint-10/model.safetensors" in answer.err


@pytest.mark.fault(8, 37)
def test_no_command_waits_for_a_mount_that_hangs_and_that_nobody_watches(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    assert rig.run(source, rig.light("save:10")).code == 0
    assert rig.mount(source).code == 0
    inside = rig.standing(rig.target, "status")
    (rig.work / "link").symlink_to(rig.target)
    daemon = rig.daemon()
    rig.kill(rig.supervisor())
    daemon.send_signal(signal.SIGSTOP)
    checkpoint_10 = rig.target / "checkpoint-10"
    for path in (checkpoint_10, rig.work / "link" / "checkpoint-10"):
        assert rig.mountkit("verify", path).code == 0
        assert rig.mountkit("status", path).code == 1
        assert rig.mountkit("umount", path).code == 69
    for path in (rig.target, rig.work / "link"):
        assert rig.mountkit("latest", path).out.strip() == str(checkpoint_10)
    told = inside()
    assert told.code == 0, told
    assert str(rig.target) in told.out
    ended = rig.umount("--discard")
    assert ended.code == 0, ended
    assert rig.mounts() == []
