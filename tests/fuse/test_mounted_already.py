"""A command on a mount that somebody else keeps, as a sidecar does for the trainer beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mountkit.checkpoints.lease import Epoch, Lease
from mountkit.names import LEASE_NAME
from mountkit.state.record import FAILED
from support import preloaded
from support.installed import needs
from support.leases import ELSEWHERE
from support.rig import MANIFEST, SCRIPTS, eventually

if TYPE_CHECKING:
    from support.rig import Answer, Bucket, Rig

needs("transformers", "torch")

ATTACHED = "attached to the Trainer of"


def train(rig: Rig, name: str, *options: str) -> tuple[Answer, list[int]]:
    """Train by a plain script, below a run that is told the target alone; where it began."""
    report = rig.work / name
    places = [str(rig.target), str(rig.gates), str(report), "--pause-at", "-1"]
    words = preloaded.command(rig.python, SCRIPTS / "plain.py", [*places, *options])
    told = {"MOUNTKIT_TARGET": str(rig.target), "MOUNTKIT_RESUME": "1"}
    answer = rig.mountkit("run", "--", *words, limit=120.0, **told)
    began = json.loads(report.read_text())["began_at"] if report.exists() else []
    return answer, began


def proven(bucket: Bucket) -> set[str]:
    return {path for path in bucket.everything("run") if path.endswith(MANIFEST)}


@pytest.mark.fault(4, 7)
def test_it_is_proven_while_it_trains_and_resumed(rig: Rig, bucket: Bucket) -> None:
    rig.mount(f"s3://{bucket.name}/run")
    answer, began = train(rig, "first", "--steps", "2", "--save-steps", "2")
    assert answer.code == 0, answer
    assert f"is mounted at {rig.target} already" in answer.err
    assert ATTACHED in answer.err
    # The mount is somebody else's, and stays.
    assert proven(bucket) == {f"checkpoint-2/{MANIFEST}"}
    assert rig.record() is not None
    answer, began = train(rig, "second", "--steps", "4", "--save-steps", "2")
    assert answer.code == 0, answer
    assert began == [2]
    assert proven(bucket) >= {f"checkpoint-4/{MANIFEST}"}
    assert rig.umount().code == 0


@pytest.mark.fault(4)
def test_all_that_it_wrote_is_proven_at_its_end(rig: Rig, bucket: Bucket) -> None:
    """Whoever mounted it may end with a code that nobody reads, as Kubernetes does of a sidecar."""
    gate = rig.gate()
    rig.mount(f"s3://{bucket.name}/run", *rig.late, endpoint=gate.url)
    write = ["sh", "-c", f"echo {{}} > {rig.target}/{{}}; exit {{}}"]
    told = {"MOUNTKIT_TARGET": str(rig.target)}

    def wrote(name: str, code: int = 0, **more: str) -> Answer:
        line = write[2].format(name, name, code)
        return rig.mountkit("run", "--", *write[:2], line, limit=120.0, **told, **more)

    answer = wrote("first")
    assert answer.code == 0, answer
    assert "all that was written is proven to be in" in answer.err
    assert bucket.everything("run")["first"] == b"first\n"
    assert wrote("second", 3).code == 3
    if rig.write_back:
        gate.shut()
        answer = wrote("third", MOUNTKIT_STALL_TIMEOUT="3")
        assert answer.code == 75, answer
        assert "not proven: third" in answer.err
        gate.open()
    assert rig.umount().code == 0


@pytest.mark.fault(4, 9)
def test_what_it_writes_when_the_mount_is_gone_is_missed(rig: Rig, bucket: Bucket) -> None:
    """Whoever kept it is gone, and nobody else knows what went to the bare directory."""
    rig.mount(f"s3://{bucket.name}/run")
    words = rig.light("save:10", "say:begun", "wait:go", "model:late")
    told = {"MOUNTKIT_TARGET": str(rig.target), "MOUNTKIT_REPAIR_TIMEOUT": "2"}
    job = rig.start(rig.python, "-m", "mountkit", "run", "--", *words, **told)
    rig.await_word("begun", job)
    assert rig.umount().code == 0
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "whoever kept the mount is gone" in answer.err
    assert "late/model.safetensors" not in bucket.everything("run")


@pytest.mark.fault(36)
def test_what_it_writes_without_the_lease_counts_no_more(rig: Rig, bucket: Bucket) -> None:
    """Nor is the mount waited for that whoever kept it has ended."""
    rig.mount(f"s3://{bucket.name}/run")
    words = rig.light("save:10", "say:begun", "wait:go")
    told = {"MOUNTKIT_TARGET": str(rig.target), "MOUNTKIT_REPAIR_TIMEOUT": "600"}
    job = rig.start(rig.python, "-m", "mountkit", "run", "--", *words, **told)
    rig.await_word("begun", job)
    held = Lease.from_bytes((bucket.disk / "run" / LEASE_NAME).read_bytes())
    later = Epoch(held.epoch + 1, datetime.now(UTC))
    made = replace(held, holder=ELSEWHERE, epochs=(*held.epochs, later))
    bucket.put(f"run/{LEASE_NAME}", made.to_bytes())
    eventually(lambda: (found := rig.record()) and found.state == FAILED, "ended")
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "the lease of the run is lost" in answer.err
    assert rig.umount("--discard").code == 0


def test_without_a_mount_it_says_so(rig: Rig) -> None:
    answer = rig.mountkit("run", "--", "/bin/true", MOUNTKIT_TARGET=str(rig.target))
    assert answer.code == 0, answer
    assert "no bucket is configured" in answer.err
    assert "already" not in answer.err


def test_another_directory_than_the_mounts_is_no_mount(rig: Rig, bucket: Bucket) -> None:
    """Nor is one that nobody looks after, or that has been taken away."""
    rig.mount(f"s3://{bucket.name}/run")
    below = str(rig.target / "below")
    answer = rig.mountkit("run", "--", "/bin/true", MOUNTKIT_TARGET=below)
    assert "no bucket is configured" in answer.err
    rig.kill(rig.supervisor())
    answer = rig.mountkit("run", "--", "/bin/true", MOUNTKIT_TARGET=str(rig.target))
    assert "no bucket is configured" in answer.err
    assert rig.umount().code == 0
    answer = rig.mountkit("run", "--", "/bin/true", MOUNTKIT_TARGET=str(rig.target))
    assert "no bucket is configured" in answer.err
