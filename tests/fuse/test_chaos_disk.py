"""The disk of the cache runs full in the middle of a run, or somebody takes the cache away."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from light import checkpoint
from saving import files

from support.assertions import assert_proven
from support.chaos import QUICK, Saves, assert_the_truth
from support.rig import assert_same, eventually
from support.small_disk import MIB, ROOM, TO_THE_LAST_BYTE, fill

if TYPE_CHECKING:
    from pathlib import Path

    from support.rig import Bucket, Rig

SIZE = 10 * MIB
MODEL = "final/model.safetensors"


@pytest.mark.cached
@pytest.mark.fault(15)
def test_a_save_beyond_the_room_is_an_error_that_says_so(
    rig: Rig, bucket: Bucket, small_disk: Path
) -> None:
    command = rig.light("save:10", f"save:20:{ROOM + 10 * MIB}")
    answer = rig.run(f"s3://{bucket.name}/run", command, *TO_THE_LAST_BYTE)
    assert answer.code == 1, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert bucket.manifest("run/checkpoint-20") is None
    print(answer)
    assert "no space left" in answer.err


@pytest.mark.cached
@pytest.mark.fault(7, 12, 15)
@pytest.mark.parametrize("killed", [False, True], ids=["", "and the daemon is killed"])
def test_a_disk_that_is_full_for_a_while(
    rig: Rig, bucket: Bucket, small_disk: Path, killed: bool
) -> None:
    rig.settings.update(QUICK)
    saves = Saves(rig)
    command = saves.command("--how", "prove")
    job = rig.begin(f"s3://{bucket.name}/run", command, *TO_THE_LAST_BYTE, limit=200)
    saves.await_more(job, "proven")
    filler = fill(small_disk)
    saves.await_more(job, "torn")
    if killed:
        rig.kill(rig.daemon())
    filler.unlink()
    saves.await_more(job, "proven")
    rig.say("enough")
    answer = job.wait()
    assert_the_truth(bucket, saves, answer)
    assert answer.code == 0, f"{answer}\n{saves}"


@pytest.mark.cached
@pytest.mark.fault(15)
def test_what_a_full_disk_takes_away_before_its_proof_is_named(
    rig: Rig, bucket: Bucket, small_disk: Path
) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    saves = Saves(rig)
    rig.say("enough")
    # rclone keeps 1 GiB free as it comes; on this disk it takes away whatever it has uploaded.
    command = saves.command("--size", str(SIZE), "--count", "5")
    answer = rig.run(f"s3://{bucket.name}/run", command)
    print(answer)
    print(saves)
    assert_the_truth(bucket, saves, answer, SIZE)
    for step in saves.told("saved"):
        assert_same(bucket.files(f"run/checkpoint-{step}"), files(step, SIZE))


@pytest.mark.cached
@pytest.mark.fault(15, 26)
def test_a_final_model_that_a_full_disk_takes_away_is_named(
    rig: Rig, bucket: Bucket, small_disk: Path
) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    command = rig.light("model:final", "say:saved", "wait:go")
    job = rig.begin(f"s3://{bucket.name}/run", command)
    rig.await_word("saved", job)
    name = MODEL
    eventually(lambda: name in bucket.files("run"), "uploaded")
    eventually(lambda: not list(small_disk.rglob(MODEL)), "taken away")
    bucket.put("run/results.json", b"somebody else's")
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert name in answer.err
    assert "results.json" not in answer.err
    # What is emptied by rclone is there all the same.
    assert "cache was taken away" not in answer.err
    # The next run has lost nothing.
    again = rig.run(f"s3://{bucket.name}/run", rig.light("exit:0"))
    assert again.code == 0, again


@pytest.mark.fault(15)
def test_what_another_program_puts_below_the_mounted_prefix_is_not_named(
    rig: Rig, bucket: Bucket
) -> None:
    command = rig.light("save:10", "say:saved", "wait:go")
    job = rig.begin(f"s3://{bucket.name}/run", command)
    rig.await_word("saved", job)
    for name in ("data.bin", "checkpoint-7/trainer_state.json"):
        # With what every rclone notes, by which these servers date it.
        bucket.client().put_object(
            Bucket=bucket.name,
            Key=f"run/other/{name}",
            Body=b"somebody else's",
            Metadata={"mtime": str(time.time())},
        )
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.cached
@pytest.mark.fault(4, 15)
@pytest.mark.parametrize("how", ["as it is", "written to again", "daemon killed", "contents only"])
def test_a_cache_that_is_taken_away_is_not_taken_for_an_empty_one(
    rig: Rig, bucket: Bucket, how: str
) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    source = f"s3://{bucket.name}/run"
    more = ["model:final", "say:more"] if how == "written to again" else ["say:more"]
    command = rig.light("save:10", "say:saved", "wait:go", *more, "wait:end")
    job = rig.begin(source, command, *rig.late)
    rig.await_word("saved", job)
    for tree in [*rig.cache.glob("*/vfs"), *rig.cache.glob("*/vfsMeta")]:
        for gone in tree.glob(f"*/{bucket.name}/run/*") if how == "contents only" else [tree]:
            rig.take_away(gone)
    if how == "daemon killed":
        rig.kill(rig.daemon())
        rig.await_remount()
    rig.say("go")
    rig.await_word("more", job)
    rig.say("end")
    answer = job.wait()
    assert answer.code == 75, answer
    expected = "checkpoint-10/" if how == "contents only" else "cache was taken away"
    assert expected in answer.err
    assert bucket.manifest("run/checkpoint-10") is None
    # Said once: the next run has lost nothing, and its cache is another one on purpose.
    again = rig.run(source, rig.light("save:20"))
    assert again.code == 0, again
    assert_proven(bucket, "run/checkpoint-20", checkpoint(20))


@pytest.mark.cached
@pytest.mark.fault(15)
def test_another_process_sees_that_a_cache_was_taken_away(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    mounted = rig.mount(source, *rig.late)
    assert mounted.code == 0, mounted
    rig.script("save:10")
    for tree in [*rig.cache.glob("*/vfs"), *rig.cache.glob("*/vfsMeta")]:
        rig.take_away(tree)
    answer = rig.umount()
    assert answer.code != 0, answer
    assert "cache was taken away" in answer.err
    assert rig.mounts()
    given_up = rig.umount("--discard")
    assert given_up.code == 0, given_up
    again = rig.run(source, rig.light("save:20"))
    assert again.code == 0, again
