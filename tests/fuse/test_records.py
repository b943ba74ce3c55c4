"""Whose mount it is: records of the dead, and two processes that have a say in one mount."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from light import checkpoint, safetensors

from mountkit.linux import mount_table
from mountkit.mounts.mount import Mount
from mountkit.state.registry import State
from support.assertions import assert_proven
from support.proxy import Fault
from support.rig import assert_same, eventually

if TYPE_CHECKING:
    from support.proxy import Request
    from support.rig import Bucket, Rig

MODEL = "final/model.safetensors"


@pytest.mark.fault(9, 37)
def test_a_dead_mount_of_another_prefix_is_not_taken_for_the_one_that_serves(
    rig: Rig, bucket: Bucket
) -> None:
    # Which record comes first in the directory is chance: one of several does for certain, nearly.
    for run in range(4):
        assert rig.mount(f"s3://{bucket.name}/dead-{run}").code == 0
        daemon = rig.daemon()
        rig.kill(rig.supervisor())
        rig.kill(daemon)
        subprocess.run(["fusermount3", "-u", "-z", str(rig.target)], check=True)
    assert rig.mount(f"s3://{bucket.name}/run").code == 0
    rig.script("save:10")
    found = Mount.containing(rig.target / "checkpoint-10", State(rig.state))
    assert found is not None
    assert found.source == f"s3://{bucket.name}/run"
    answer = rig.umount()
    assert answer.code == 0, answer
    assert rig.mounts() == []
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(9)
def test_the_target_of_a_mount_that_is_being_repaired_is_taken(rig: Rig, bucket: Bucket) -> None:
    program, path = rig.place_program()
    rig.settings["PATH"] = path
    assert rig.mount(f"s3://{bucket.name}/run").code == 0
    program.unlink()
    rig.kill(rig.daemon())
    eventually(lambda: mount_table.at(str(rig.target)) is None, "taken away")
    # Whoever mounts now finds the program, and the supervisor does not yet.
    rig.settings["PATH"] = rig.tools("fusermount3")
    rig.put_program(Path(rig.settings["PATH"]) / program.name)
    refused = rig.mount(f"s3://{bucket.name}/other")
    assert refused.code == 69, refused
    assert f"{bucket.name}/run is mounted at" in refused.err
    rig.put_program(program)
    rig.await_remount()
    answer = rig.umount()
    assert answer.code == 0, answer


@pytest.mark.fault(4, 37)
def test_a_run_that_is_unmounted_from_outside_answers_for_its_own_files_only(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    assert rig.run(source, rig.light("model:final")).code == 0
    job = rig.begin(source, rig.light("save:10", "say:saved", "wait:go"))
    rig.await_word("saved", job)
    assert rig.umount().code == 0
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    assert_same(bucket.files("run/final"), {"model.safetensors": safetensors(0, 20_000)})
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.cached
@pytest.mark.fault(37)
def test_a_mount_that_is_being_unmounted_is_not_taken_over(rig: Rig, bucket: Bucket) -> None:
    proxy = rig.proxy()
    source = f"s3://{bucket.name}/run"
    assert rig.mount(source, *rig.late, endpoint=proxy.url).code == 0
    rig.script("model:final")
    rig.kill(rig.supervisor())

    def hold(request: Request) -> Fault | None:
        kept = request.method in {"PUT", "POST"} and MODEL in request.key
        return Fault(503, "SlowDown") if kept else None

    proxy.rule = hold
    ending = rig.start(rig.python, "-m", "mountkit", "umount", str(rig.target))
    eventually(lambda: proxy.faults > 0, "pushed")
    refused = rig.run(source, rig.light("exit:0"), *rig.late, endpoint=proxy.url)
    assert refused.code == 69, refused
    assert "by another process" in refused.err
    assert rig.mounts() == [str(rig.target)]
    proxy.rule = lambda _: None
    answer = ending.wait()
    assert answer.code == 0, answer
    assert rig.mounts() == []
    assert_same(bucket.files("run"), {MODEL: safetensors(0, 20_000)})
