"""What a killed run has left under another target is told of, with what brings it to the bucket."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING

import pytest
from light import checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from support.rig import Bucket, Job, Rig

SIZE = 3_000_000
RCLONE = ("--backend", "rclone", "--option", "vfs-write-back=60s")
NOBODY = "nobody uploads them now"


def old(rig: Rig) -> Path:
    return rig.work / "the old one"


def leave(rig: Rig, bucket: Bucket, *, kill: bool) -> Job:
    """Have a run save at the old target, and upload nothing."""
    command = rig.light(f"save:10:{SIZE}", "say:saved", "wait:go", target=old(rig))
    job = rig.begin(f"s3://{bucket.name}/a/run", command, *RCLONE, target=old(rig))
    rig.await_word("saved", job)
    if kill:
        # The order of a machine that goes down: nobody has time for anything.
        daemon, supervisor = rig.daemon(old(rig)), rig.supervisor(old(rig))
        for process in (supervisor, daemon):
            rig.kill(process)
        assert rig.start("fusermount3", "-u", "-z", old(rig)).wait().code == 0
        rig.say("go")
        job.wait()
    return job


@pytest.mark.fault(13)
@pytest.mark.parametrize("forgotten", [False, True])
def test_what_waits_under_another_target_is_told_and_can_be_brought_in(
    rig: Rig, bucket: Bucket, forgotten: bool
) -> None:
    leave(rig, bucket, kill=True)
    source, size = f"s3://{bucket.name}/a/run", sum(map(len, checkpoint(10, SIZE).values()))
    if forgotten:
        # As after a restart: what is mounted is known in a directory that does not outlast it.
        shutil.rmtree(rig.state)
    answer = rig.run(source, ["true"])
    assert answer.code == 0, answer
    told = [line for line in answer.err.splitlines() if NOBODY in line]
    # Before the command, and once more at the end.
    assert len(told) == 2
    assert told[0] == told[1]
    assert f"12 files ({size:,} bytes) of a mount at {old(rig)}" in told[0]
    assert f"{rig.cache}/" in told[0]
    status = rig.mountkit("status", "--format", "json").json
    command = told[0].partition("this does: ")[2]
    if forgotten:
        [waiting] = status["waiting"]
        assert (waiting["files"], waiting["bytes"], waiting["held"]) == (12, size, False)
        assert waiting["command"] == command
    else:
        assert [mount["pending_files"] for mount in status["mounts"]] == [12]
    brought = rig.mountkit(*shlex.split(command)[1:])
    assert brought.code == 0, brought
    assert bucket.files("a/run/checkpoint-10") == checkpoint(10, SIZE)
    assert NOBODY not in brought.err
    assert NOBODY not in rig.run(source, ["true"]).err
    assert rig.mountkit("status", "--format", "json").json == {"mounts": []}


@pytest.mark.cached
@pytest.mark.fault(13)
def test_it_is_told_of_whatever_overlaps_and_however_the_store_is_called(
    rig: Rig, bucket: Bucket
) -> None:
    leave(rig, bucket, kill=True)
    other = rig.server.endpoint_url.replace("127.0.0.1", "localhost")
    for place, endpoint, told in (
        ("/a/run", other, True),
        ("/a", "", True),
        ("/a/run/checkpoint-10", "", True),
        ("/a/run-2", "", False),
        ("/b", "", False),
    ):
        answer = rig.run(f"s3://{bucket.name}{place}", ["true"], endpoint=endpoint)
        assert answer.code == 0, answer
        assert (NOBODY in answer.err) == told, answer
    mounted = rig.mount(f"s3://{bucket.name}/a", "--format", "json")
    assert NOBODY in mounted.err
    assert [cache["target"] for cache in mounted.json["waiting"]] == [str(old(rig))]
    assert rig.umount().code == 0
    answer = rig.start(*with_api(rig, f"s3://{bucket.name}/a")).wait()
    assert answer.err.count(NOBODY) == 2, answer


def with_api(rig: Rig, source: str) -> list[str]:
    script = (
        "import mountkit, sys\n"
        "with mountkit.mount(*sys.argv[1:3], endpoint_url=sys.argv[3], backend=sys.argv[4]): pass"
    )
    place = [source, str(rig.target), rig.server.endpoint_url, rig.backend]
    return [rig.python, "-c", script, *place]


@pytest.mark.fault(13)
def test_what_another_process_has_is_told_and_left_to_it(rig: Rig, bucket: Bucket) -> None:
    job = leave(rig, bucket, kill=False)
    answer = rig.run(f"s3://{bucket.name}/a", ["true"])
    assert answer.code == 0, answer
    assert "a process that is running has them" in answer.err
    assert NOBODY not in answer.err
    rig.say("go")
    assert job.wait().code == 0
    assert bucket.files("a/run/checkpoint-10") == checkpoint(10, SIZE)
