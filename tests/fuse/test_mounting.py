"""``mountkit mount``, ``status`` and ``umount``, and the Python interface."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from light import checkpoint

from mountkit.linux import mount_table
from mountkit.state.record import FAILED
from support.assertions import assert_proven
from support.rig import SCRIPTS, await_turns, eventually, prober
from support.runs import with_api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.rig import Answer, Bucket, Rig


def test_mount_status_write_umount(rig: Rig, bucket: Bucket) -> None:
    mounted = rig.mount(f"s3://{bucket.name}/run", *rig.late)
    assert mounted.code == 0, mounted
    assert str(rig.target) in mounted.err
    rig.script("save:10")

    told = rig.mountkit("status", "--format", "json")
    assert told.code == 0, told
    [mount] = told.json["mounts"]
    assert mount["source"] == f"s3://{bucket.name}/run"
    assert mount["target"] == str(rig.target)
    assert mount["backend"] == rig.backend
    assert mount["state"] == "serving"
    assert mount["pending_files"] == (len(checkpoint(10)) if rig.write_back else 0)
    size = sum(map(len, checkpoint(10).values()))
    assert mount["pending_bytes"] == (size if rig.write_back else 0)
    assert mount["daemon_pid"] == rig.daemon().pid
    assert mount["supervisor_pid"] == rig.supervisor().pid
    human = rig.mountkit("status", rig.target, COLUMNS="300")
    assert human.code == 0, human
    assert str(rig.target) in human.out
    assert "serving" in human.out

    ended = rig.umount("--format", "json")
    assert ended.code == 0, ended
    assert ended.json["checkpoints"] == ["checkpoint-10"]
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert rig.mounts() == []
    assert rig.left() == []
    gone = rig.mountkit("status", "--format", "json")
    assert (gone.code, gone.json) == (1, {"mounts": []})


def test_umount_of_nothing(rig: Rig) -> None:
    rig.target.mkdir()
    answer = rig.umount()
    assert answer.code == 69, answer
    assert "Nothing" in answer.err


def test_a_mount_in_the_foreground_drains_on_sigterm(rig: Rig, bucket: Bucket) -> None:
    words = [f"s3://{bucket.name}/run", str(rig.target), *rig.how(), *rig.late, "--foreground"]
    job = rig.start(rig.python, "-m", "mountkit", "mount", *words)
    rig.await_text("is mounted at", job)
    rig.script("save:10")
    job.process.send_signal(signal.SIGTERM)
    answer = job.wait()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert rig.mounts() == []


@pytest.mark.fault(5)
def test_sigterm_to_the_supervisor_in_the_background_drains(rig: Rig, bucket: Bucket) -> None:
    assert rig.mount(f"s3://{bucket.name}/run", *rig.late).code == 0
    rig.script("save:10")
    rig.supervisor().send_signal(signal.SIGTERM)
    assert rig.left() == []
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(40)
def test_umount_drains_and_ends_although_a_file_is_kept_open(rig: Rig, bucket: Bucket) -> None:
    assert rig.mount(f"s3://{bucket.name}/run").code == 0
    rig.script("save:10")
    reader = "import sys; f = open(sys.argv[1]); open(sys.argv[2], 'w').close(); input()"
    words = [str(rig.target / "checkpoint-10/config.json"), str(rig.gates / "opened")]
    holder = subprocess.Popen([rig.python, "-c", reader, *words], stdin=subprocess.PIPE)
    try:
        eventually((rig.gates / "opened").exists, "opened")
        answer = rig.umount()
        assert answer.code == 0, answer
        assert rig.mounts() == []
    finally:
        holder.kill()
        holder.communicate()
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.cached
@pytest.mark.fault(3, 40)
def test_what_was_written_through_a_mapping_is_drained_too(rig: Rig, bucket: Bucket) -> None:
    assert rig.mount(f"s3://{bucket.name}/run", *rig.late).code == 0
    rig.script("model:final")
    before = (rig.target / "final/model.safetensors").stat().st_size
    words = [str(SCRIPTS / "mapped.py"), str(rig.target / "final/model.safetensors")]
    job = rig.start(rig.python, *words, rig.gates)
    rig.await_word("mapped", job)
    answer = rig.umount()
    # As long as the program has it open, rclone uploads nothing.
    assert answer.code == 75, answer
    assert "final/model.safetensors" in answer.err
    rig.say("go")
    assert job.wait().code == 0
    answer = rig.umount()
    assert answer.code == 0, answer
    arrived = bucket.files("run")["final/model.safetensors"]
    assert arrived.startswith(b"mapped")
    assert len(arrived) == before


@pytest.mark.fault(4, 9)
@pytest.mark.parametrize("ended", [False, True], ids=["at once", "once its supervisor has ended"])
def test_what_was_written_when_the_mount_was_given_up_is_not_called_proven(
    rig: Rig, bucket: Bucket, ended: bool
) -> None:
    program, path = rig.place_program()
    rig.settings.update(MOUNTKIT_REMOUNT_ATTEMPTS="1", PATH=path)
    assert rig.mount(f"s3://{bucket.name}/run").code == 0
    program.unlink()
    rig.kill(rig.daemon())
    eventually(lambda: (record := rig.record()) and record.state == FAILED, "given up")
    rig.script("save:10")
    if ended:
        # It may have named them, in its log.
        eventually(lambda: not (record := rig.record()) or not record.supervisor.alive(), "ended")
    answer = rig.umount()
    assert answer.code == 75, answer
    assert "checkpoint-10/model.safetensors" in answer.err
    assert rig.mounts() == []
    # It is kept, for it may be the only copy: moved, or where it is if its supervisor had ended.
    moved = list(rig.cache.rglob("strays/*/checkpoint-10/model.safetensors"))
    assert moved or (rig.target / "checkpoint-10/model.safetensors").exists()


@pytest.mark.fault(4, 9)
def test_what_was_written_below_the_mount_is_not_called_proven(rig: Rig, bucket: Bucket) -> None:
    rig.target.mkdir()
    writer = "import pathlib, sys; input(); pathlib.Path('model.bin').write_bytes(b'weights')"
    # It stands in the directory before anything is mounted there, as a shell may.
    words = [rig.python, "-c", writer]
    standing = subprocess.Popen(words, stdin=subprocess.PIPE, cwd=rig.target)
    try:
        assert rig.mount(f"s3://{bucket.name}/run").code == 0
        standing.communicate(b"\n", timeout=30)
    finally:
        standing.kill()
        standing.wait()
    answer = rig.umount()
    assert answer.code == 75, answer
    assert "model.bin" in answer.err
    assert rig.mounts() == []


@pytest.mark.fault(9)
def test_two_mounts_at_once_are_kept_apart(rig: Rig) -> None:
    first, second = rig.bucket("one-" + rig.bucket().name), rig.bucket("two-" + rig.bucket().name)
    other = rig.work / "other output"
    assert rig.mount(f"s3://{first.name}/run").code == 0
    assert rig.mount(f"s3://{second.name}/run", target=other).code == 0
    rig.script("save:10")
    rig.script("save:20", target=other)
    told = rig.mountkit("status", "--format", "json")
    assert {mount["target"] for mount in told.json["mounts"]} == {str(rig.target), str(other)}
    ended = rig.umount()
    assert ended.code == 0, ended
    assert rig.mounts() == [str(other)]
    ended = rig.umount(target=other)
    assert ended.code == 0, ended
    assert {path.partition("/")[0] for path in first.everything("run")} == {"checkpoint-10"}
    assert_proven(first, "run/checkpoint-10", checkpoint(10))
    assert_proven(second, "run/checkpoint-20", checkpoint(20))
    assert {path.partition("/")[0] for path in second.everything("run")} == {"checkpoint-20"}


@pytest.mark.fault(9)
def test_a_place_that_is_mounted_already_is_refused(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    assert rig.mount(source).code == 0
    daemon = rig.daemon()
    for answer in (rig.mount(source), rig.run(source, rig.light("say:ran"))):
        assert answer.code == 69, answer
        assert "mounted at" in answer.err
        assert f"mountkit umount {rig.target}" in answer.err
    another = rig.mount(f"s3://{bucket.name}/another")
    assert another.code == 69, another
    assert "mountkit umount" in another.err
    assert not (rig.gates / "ran").exists()
    assert rig.daemon() == daemon
    assert daemon.is_running()
    assert rig.umount().code == 0


@contextlib.contextmanager
def foreign_mount(rig: Rig, rclone: str) -> Iterator[None]:
    """A FUSE mount at the target that is not mountkit's, though of the same kind."""
    data = rig.work / "theirs"
    data.mkdir()
    (data / "precious").write_text("theirs")
    rig.target.mkdir()
    words = [rclone, "mount", str(data), str(rig.target), "--config", "", "--devname", "theirs"]
    job = rig.start(*words)
    try:
        eventually(lambda: mount_table.at(str(rig.target)) or job.ended(), "mounted")
        assert not job.ended(), job.wait()
        yield
        assert (rig.target / "precious").read_text() == "theirs"
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(rig.target)], check=False)
        job.process.terminate()
        job.wait()


@pytest.mark.fault(9)
def test_a_target_where_somebody_else_mounted_is_refused_and_stays(
    rig: Rig, bucket: Bucket, rclone: str
) -> None:
    with foreign_mount(rig, rclone):
        answer = rig.mount(f"s3://{bucket.name}/run")
        assert answer.code == 69, answer
        assert "theirs" in answer.err
        ended = rig.umount()
        assert ended.code == 69, ended
        entry = mount_table.at(str(rig.target))
        assert entry is not None
        assert entry.source == "theirs"


@contextlib.contextmanager
def mounted_over(rig: Rig) -> Iterator[None]:
    """Somebody else's mount on top of ours, which must still be there at the end."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")
    words = ["mount", "-t", "tmpfs", "mountkit-test", str(rig.target)]
    subprocess.run(words, check=True)
    taken_away = False
    try:
        yield
        # It fails if it is not there any more, or is not ours.
        entry = mount_table.at(str(rig.target))
        taken_away = entry is None or entry.source != "mountkit-test"
    finally:
        if not taken_away:
            subprocess.run(["umount", "--lazy", str(rig.target)], check=True)
    assert not taken_away


@pytest.mark.fault(9)
def test_a_mount_that_somebody_mounted_over_waits_and_serves_on(rig: Rig, bucket: Bucket) -> None:
    command = rig.light("save:10", "say:between", "wait:go", "save:20")
    job = rig.begin(f"s3://{bucket.name}/run", command)
    rig.await_word("between", job)
    daemon = rig.daemon()
    # The mount was seen to be well after the save, or that may be torn for all anybody knows.
    await_turns(prober(job), 3)
    with mounted_over(rig):
        rig.await_text("is mounted over it", job)
        assert rig.record().state == "repairing"
    eventually(lambda: rig.record().state == "serving", "serving again")
    assert rig.daemon() == daemon
    assert rig.record().remounts == 0
    rig.say("go")
    answer = job.wait()
    # What was written meanwhile went past the bucket, and nobody knows whether anything was.
    assert answer.code == 75, answer
    assert "mountkit-test (tmpfs) is mounted over it; what was written meanwhile" in answer.err
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert_proven(bucket, "run/checkpoint-20", checkpoint(20))
    # That is told once.
    assert rig.run(f"s3://{bucket.name}/run", rig.light("exit:0")).code == 0


@pytest.mark.fault(9)
def test_a_run_that_ends_below_somebody_elses_mount_leaves_it_there(
    rig: Rig, bucket: Bucket
) -> None:
    rig.settings["MOUNTKIT_REPAIR_TIMEOUT"] = "2"
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    command = rig.light("save:10", "say:between", "wait:go", "save:20")
    job = rig.begin(f"s3://{bucket.name}/run", command)
    rig.await_word("between", job)
    daemon = rig.daemon()
    with mounted_over(rig):
        rig.await_text("is mounted over it", job)
        rig.say("go")
        answer = job.wait()
        assert answer.code == 75, answer
        assert "mountkit-test (tmpfs) is mounted over it; what was written meanwhile" in answer.err
        assert not daemon.is_running()
    # Below it a mount that nobody serves is left, as it said.
    assert f"fusermount3 -u -z {rig.target}" in answer.err
    subprocess.run(["fusermount3", "-u", "-z", str(rig.target)], check=True)


def test_leaving_the_with_block_drains(rig: Rig, bucket: Bucket) -> None:
    answer: Answer = rig.start(*with_api(rig, bucket, "save")).wait()
    assert answer.code == 0, answer
    assert answer.json["error"] is None, answer
    assert answer.json["path"] == str(rig.target)
    assert answer.json["before"] is None
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    again = rig.start(*with_api(rig, bucket, "save")).wait()
    assert again.json["before"] == str(rig.target / "checkpoint-10"), again


def test_an_error_in_the_with_block_passes_through(rig: Rig, bucket: Bucket) -> None:
    answer = rig.start(*with_api(rig, bucket, "raise")).wait()
    assert answer.code == 0, answer
    assert answer.json["error"] == "the loss is not a number", answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(5)
def test_the_with_block_raises_if_the_store_is_gone(rig: Rig, bucket: Bucket) -> None:
    gate = rig.gate()
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    job = rig.start(*with_api(rig, bucket, "pause", gate.url))
    rig.await_word("written", job)
    gate.shut()
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    assert (answer.json["error"], answer.json.get("code")) == ("NotDurableError", 75), answer
    assert rig.mounts() == []


@pytest.mark.fault(37)
def test_relative_places_are_found_from_everywhere(rig: Rig, bucket: Bucket) -> None:
    rig.settings |= {"MOUNTKIT_STATE_DIR": "state", "MOUNTKIT_CACHE_DIR": "cache"}
    source = f"s3://{bucket.name}/run"
    assert rig.mount(source).code == 0
    record = rig.record()
    assert record is not None, "the supervisor keeps it elsewhere"
    assert record.spec.cache_dir.startswith(f"{rig.cache}/")
    rig.script("save:10")
    answer = rig.umount()
    assert answer.code == 0, answer
    status = shlex.join([rig.python, "-m", "mountkit", "status", str(rig.target)])
    elsewhere = rig.run(source, ["sh", "-c", f"cd / && exec {status}"])
    assert elsewhere.code == 0, elsewhere
