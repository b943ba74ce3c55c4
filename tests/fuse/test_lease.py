"""One writer a run: the second is refused, a dead one is succeeded, and a stale one is stopped."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from light import checkpoint

from mountkit.checkpoints.lease import Epoch, Lease
from mountkit.names import LEASE_NAME
from support.assertions import assert_proven
from support.leases import ELSEWHERE
from support.rig import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.rig import Bucket, Rig

pytestmark = pytest.mark.fault(36)

KEY = f"run/{LEASE_NAME}"


def lease(bucket: Bucket) -> dict[str, Any]:
    return json.loads((bucket.disk / KEY).read_bytes())


def foreign(bucket: Bucket, epoch: int, renewal: int = 0) -> None:
    """Another machine's lease."""
    begun = Epoch(epoch, datetime.now(UTC))
    made = Lease(f"s3://{bucket.name}/run", ELSEWHERE, (begun,), renewal)
    bucket.put(KEY, made.to_bytes())


@contextmanager
def living_elsewhere(bucket: Bucket) -> Iterator[None]:
    """A writer on another machine that renews its lease."""
    ended = threading.Event()

    def renew() -> None:
        renewal = 0
        while not ended.wait(1.0):
            renewal += 1
            foreign(bucket, 3, renewal)

    foreign(bucket, 3)
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_second_live_writer_is_refused_here_and_the_first_goes_on(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    job = rig.begin(source, rig.light("save:5", "say:saved", "wait:go", "save:10"))
    rig.await_word("saved", job)
    supervisor = rig.supervisor().pid
    refused = rig.mount(source, target=rig.work / "other")
    assert refused.code == 69, refused
    assert f"{source} is in use: process {supervisor} on" in refused.err
    assert lease(bucket)["since"][:16].replace("T", " ") in refused.err
    assert "mountkit status" in refused.err
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    assert LEASE_NAME not in answer.err
    for step in (5, 10):
        assert_proven(bucket, f"run/checkpoint-{step}", checkpoint(step))
        manifest = bucket.manifest(f"run/checkpoint-{step}")
        assert (manifest["format"], manifest["epoch"], manifest["run"]) == (1, 1, source)
    left = lease(bucket)
    assert (left["epoch"], left["released"]) == (1, True)
    assert left["holder"]["pid"] == supervisor
    again = rig.run(source, rig.light("save:15"))
    assert again.code == 0, again
    assert bucket.manifest("run/checkpoint-15")["epoch"] == 2
    assert rig.ask("latest", source).out == f"{source}/checkpoint-15\n"


def test_one_that_lives_on_another_machine_refuses_too(rig: Rig, bucket: Bucket) -> None:
    with living_elsewhere(bucket):
        refused = rig.run(f"s3://{bucket.name}/run", rig.light("save:5"))
    assert refused.code == 69, refused
    assert "process 4711 on node-b" in refused.err
    assert bucket.everything("run") == {}, "the command has run"
    assert lease(bucket)["holder"]["host"] == "node-b"
    assert rig.record() is None


@pytest.mark.fault(37)
def test_one_that_was_killed_here_is_succeeded_at_once(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    job = rig.begin(source, rig.light("save:5", "say:saved", "wait:never"))
    rig.await_word("saved", job)
    for process in (rig.daemon(), rig.supervisor()):
        rig.kill(process)
    job.wait()
    for process in rig.processes():
        rig.kill(process)
    began = time.time()
    answer = rig.run(source, rig.light("save:10"))
    assert answer.code == 0, answer
    assert "takes over in" not in answer.err
    found = lease(bucket)
    assert (found["epoch"], found["released"]) == (2, True)
    assert datetime.fromisoformat(found["since"]).timestamp() < began + 30
    assert bucket.manifest("run/checkpoint-10")["epoch"] == 2


def test_one_that_died_on_another_machine_is_waited_for(rig: Rig, bucket: Bucket) -> None:
    foreign(bucket, 3)
    # It was renewed last 18 s ago, by the store's clock.
    then = time.time() - 18
    os.utime(bucket.disk / KEY, (then, then))
    answer = rig.run(f"s3://{bucket.name}/run", rig.light("save:5"))
    assert answer.code == 0, answer
    assert answer.err.count("this run takes over in") == 1
    assert "process 4711 on node-b" in answer.err
    assert lease(bucket)["epoch"] == 4
    assert_proven(bucket, "run/checkpoint-5", checkpoint(5))
    assert bucket.manifest("run/checkpoint-5")["epoch"] == 4


def test_a_writer_that_has_lost_its_lease_is_stopped_and_proves_nothing(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    command = rig.light("save:5", "say:saved", "wait:go")
    job = rig.begin(source, command, *rig.late, "--log-format", "json")
    rig.await_word("saved", job)
    daemon = rig.daemon()
    foreign(bucket, 2)
    eventually(lambda: rig.gone(daemon), "stopped")
    there = bucket.everything("run").keys()
    rig.await_text("LeaseLost", job)
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    [lost] = [line for line in map(json.loads, answer.err.splitlines()) if is_loss(line)]
    assert "process 4711 on node-b" in lost["reason"]
    assert "epoch 2" in lost["reason"]
    assert "checkpoint-5" in answer.err or not rig.write_back
    assert bucket.manifest("run/checkpoint-5") is None
    assert bucket.everything("run").keys() == there, "uploaded after the loss"
    assert lease(bucket)["holder"]["host"] == "node-b", "it is not released by who has lost it"
    assert not rig.mounts()


def is_loss(line: dict[str, Any]) -> bool:
    return line["event"] == "LeaseLost"


def test_a_background_mount_that_loses_it_ends_by_itself(rig: Rig, bucket: Bucket) -> None:
    made = rig.mount(f"s3://{bucket.name}/run", *rig.late)
    assert made.code == 0, made
    rig.script("save:5")
    supervisor = rig.supervisor()
    foreign(bucket, 2)
    eventually(lambda: not supervisor.is_running(), "ended")
    assert not rig.mounts()
    assert bucket.manifest("run/checkpoint-5") is None
    told = rig.mountkit("status", "--format", "json")
    [mount] = told.json["mounts"]
    assert "the lease of the run is lost" in mount["reason"], told


def test_a_program_that_removes_the_lease_through_the_mount_harms_nobody(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    program = f"cat {rig.target}/{LEASE_NAME} && rm {rig.target}/{LEASE_NAME}"
    answer = rig.run(source, ["sh", "-c", program])
    assert answer.code == 0, answer
    assert '"epoch": 1' in answer.out
    assert "0 files" in answer.err
