"""What an earlier run left on this machine, when the bucket went on without it."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from light import checkpoint, safetensors, write

from support.assertions import assert_proven
from support.rig import assert_same, eventually
from support.runs import kill_all

if TYPE_CHECKING:
    from support.rig import Bucket, Job, Rig

pytestmark = pytest.mark.cached

MODEL = "final/model.safetensors"


def killed_while_it_waits(rig: Rig, source: str, *actions: str) -> None:
    """A run, its daemon and its command, ended by SIGKILL before anything was uploaded."""
    job: Job = rig.begin(source, rig.light(*actions, "say:saved", "wait:never"), *rig.late)
    rig.await_word("saved", job)
    kill_all(rig, job)


def an_hour_ago(rig: Rig) -> None:
    """Date all that waits back: whose file is the newer one is a matter of seconds here."""
    then = datetime.now(UTC) - timedelta(hours=1)
    records = [path for path in rig.cache.rglob("vfsMeta/**/*") if path.is_file()]
    assert records
    for path in records:
        record = json.loads(path.read_bytes())
        path.write_text(json.dumps({**record, "ModTime": then.isoformat()}))


@pytest.mark.fault(11, 32, 36)
def test_files_older_than_what_the_store_has_are_set_aside(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    killed_while_it_waits(rig, source, "save:10:40000")
    an_hour_ago(rig)
    # Another machine goes on, and proves the same checkpoint.
    other = rig.work / "other machine"
    place = {"MOUNTKIT_CACHE_DIR": f"{other}/cache", "MOUNTKIT_STATE_DIR": f"{other}/state"}
    target = other / "output"
    answer = rig.run(source, rig.light("save:10", target=target), target=target, **place)
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))

    again = rig.run(source, rig.light("exit:0"))
    assert again.code == 0, again
    assert "older than what the store has" in again.err
    # Proven as it was, and byte for byte.
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    newest = rig.ask("latest", source)
    assert newest.out.strip() == f"{source}/checkpoint-10"
    kept = {path.read_bytes() for path in rig.cache.rglob("strays/*/checkpoint-10/model*")}
    assert kept == {checkpoint(10, 40_000)["model.safetensors"]}


@pytest.mark.fault(11)
def test_files_that_the_store_has_as_they_are_are_not(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    killed_while_it_waits(rig, source, "save:10")
    # The daemon had uploaded them, and was killed before it noted that.
    for name, data in checkpoint(10).items():
        bucket.put(f"run/checkpoint-10/{name}", data)
    again = rig.run(source, rig.light("exit:0"))
    assert again.code == 0, again
    assert "older than" not in again.err
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(4, 26)
def test_what_the_last_drain_named_is_brought_by_the_next_run(rig: Rig, bucket: Bucket) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    source = f"s3://{bucket.name}/run"
    job = rig.begin(source, rig.light("model:final", "say:saved", "wait:go"))
    rig.await_word("saved", job)
    eventually(lambda: MODEL in bucket.files("run"), "uploaded")
    eventually(lambda: rig.pending() == 0, "done with it")
    bucket.remove(f"run/{MODEL}")
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert MODEL in answer.err

    again = rig.run(source, rig.light("exit:0"))
    assert again.code == 0, again
    assert_same(bucket.files("run"), {MODEL: safetensors(0, 20_000)})


@pytest.mark.fault(4, 12, 26)
def test_what_waits_for_the_next_run_and_was_cut_meanwhile_is_named(
    rig: Rig, bucket: Bucket
) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    source, gate = f"s3://{bucket.name}/run", rig.gate()
    words = rig.light("model:final", "say:saved", "wait:go")
    job = rig.begin(source, words, *rig.late, endpoint=gate.url)
    rig.await_word("saved", job)
    gate.shut()
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert f"not proven: {MODEL}" in answer.err
    # As after a power cut: its pages were never on the disk.
    [held] = rig.cache.glob(f"*/vfs/**/{MODEL}")
    os.truncate(held, 5000)
    gate.open()
    told = rig.run(source, rig.light("exit:0"), endpoint=gate.url)
    assert told.code == 75, told
    assert f"not proven: {MODEL} (5,000 bytes)" in told.err
    again = rig.run(source, rig.light("exit:0"), endpoint=gate.url)
    assert again.code == 0, again


@pytest.mark.fault(4, 26, 37)
def test_what_a_killed_run_had_uploaded_and_the_store_has_lost_is_named(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    job = rig.begin(source, rig.light("model:final", "say:saved", "wait:never"))
    rig.await_word("saved", job)
    eventually(lambda: MODEL in bucket.files("run"), "uploaded")
    eventually(lambda: rig.pending() == 0, "done with it")
    kill_all(rig, job)
    bucket.remove(f"run/{MODEL}")

    answer = rig.run(source, rig.light("exit:0"), MOUNTKIT_STALL_TIMEOUT="3")
    assert answer.code == 75, answer
    assert MODEL in answer.err
    again = rig.run(source, rig.light("exit:0"))
    assert again.code == 0, again
    assert_same(bucket.files("run"), {MODEL: safetensors(0, 20_000)})


@pytest.mark.fault(4, 37)
@pytest.mark.parametrize("below", ["", "sub", "sub/deeper"])
def test_a_checkpoint_that_a_killed_run_had_uploaded_is_proven_by_the_next(
    rig: Rig, bucket: Bucket, below: str
) -> None:
    source = f"s3://{bucket.name}/run"
    command = rig.light("save:10", "say:saved", "wait:never", target=rig.target / below)
    job = rig.begin(source, command)
    rig.await_word("saved", job)
    name = "/".join(filter(None, ("run", below, "checkpoint-10")))
    eventually(lambda: bucket.files(name) == checkpoint(10), "uploaded")
    eventually(lambda: rig.pending() == 0, "done with it")
    kill_all(rig, job)
    assert bucket.manifest(name) is None

    answer = rig.run(source, rig.light("exit:0"))
    assert answer.code == 0, answer
    assert_proven(bucket, name, checkpoint(10))


@pytest.mark.fault(4, 26, 32)
def test_what_the_last_drain_named_is_not_forgotten_by_a_mount_that_failed(
    rig: Rig, bucket: Bucket
) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    source = f"s3://{bucket.name}/run"
    job = rig.begin(source, rig.light("model:final", "say:saved", "wait:go"))
    rig.await_word("saved", job)
    eventually(lambda: MODEL in bucket.files("run"), "uploaded")
    eventually(lambda: rig.pending() == 0, "done with it")
    bucket.flip(f"run/{MODEL}")
    rig.say("go")
    assert job.wait().code == 75
    failed = rig.run(source, rig.light("exit:0"), "--option", "no-such-option=1")
    assert failed.code == 69, failed
    again = rig.run(source, rig.light("exit:0"))
    assert again.code == 75, again
    assert MODEL in again.err


@pytest.mark.fault(22)
def test_a_checkpoint_that_is_copied_there_with_its_dates_is_one(rig: Rig, bucket: Bucket) -> None:
    kept = rig.work / "kept"
    write(kept / "checkpoint-10", checkpoint(10))
    for path in sorted(kept.rglob("*"), reverse=True):
        os.utime(path, (0, 1_700_000_000))
    assert rig.mount(f"s3://{bucket.name}/run").code == 0
    subprocess.run(["cp", "-a", str(kept / "checkpoint-10"), str(rig.target)], check=True)
    answer = rig.umount()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
