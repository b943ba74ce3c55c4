"""What misses the mount, written by a process that stands on the directory below it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from light import many

from support.runs import kill_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.rig import Answer, Bucket, Rig

AGAIN = 3
SIZE = 5000
PLAIN = f"head -c {SIZE} /dev/urandom >"
# The same size and the same date each time, as of an archive that is unpacked once more.
DATED = f'f() {{ head -c {SIZE} /dev/urandom > "$1" && touch -d 2020-01-01 "$1"; }}; f'


@contextlib.contextmanager
def bystander(rig: Rig, line: str) -> Iterator[None]:
    """Somebody who stands at the target before anything is mounted, and writes when told to."""
    for word in ("stands", "up", "written"):
        (rig.gates / word).unlink(missing_ok=True)
    rig.target.mkdir(exist_ok=True)
    go = f"until [ -e '{rig.gates}/up' ]; do sleep 0.05; done"
    words = f"cd '{rig.target}' && touch '{rig.gates}/stands' && {go}; {line}"
    job = rig.start("sh", "-c", f"{words}; touch '{rig.gates}/written'")
    rig.await_word("stands", job)
    yield
    if not job.ended():
        rig.say("up")
    answer = job.wait()
    assert answer.code == 0, answer


def run_beside(rig: Rig, bucket: Bucket, line: str, *actions: str) -> Answer:
    """``mountkit run`` of a script, beside which somebody writes past the mount."""
    with bystander(rig, line):
        command = rig.light(*actions, "say:up", "wait:written")
        return rig.run(f"s3://{bucket.name}/run", command)


def latest(rig: Rig, bucket: Bucket) -> Answer:
    url = f"s3://{bucket.name}/run"
    return rig.ask("latest", url)


@pytest.mark.fault(42)
@pytest.mark.parametrize("write", [f"{PLAIN} model.bin", f"mkdir -p a/b && {DATED} a/b/model.bin"])
def test_what_misses_the_mount_again_under_the_same_name_is_named_each_time(
    rig: Rig, bucket: Bucket, write: str
) -> None:
    answers = [run_beside(rig, bucket, write) for _ in range(AGAIN)]
    assert [answer.code for answer in answers] == [75] * AGAIN, answers
    for answer in answers:
        assert "model.bin (5,000 bytes): it did not reach the mount" in answer.err
        assert "by a process whose working directory" in answer.err
        assert "daemon died" not in answer.err
    assert bucket.everything("run") == {}
    assert len(list(rig.cache.rglob("strays/**/model.bin"))) == AGAIN


@pytest.mark.fault(7, 42)
@pytest.mark.parametrize("start", ["fails", "runs nothing"])
def test_what_missed_a_killed_run_is_named_though_a_start_came_to_nothing_in_between(
    rig: Rig, bucket: Bucket, start: str
) -> None:
    source = f"s3://{bucket.name}/run"
    with bystander(rig, f"{PLAIN} model.bin"):
        job = rig.begin(source, rig.light("say:up", "wait:never"))
        rig.await_word("written", job)
    kill_all(rig, job)
    if start == "fails":
        between = rig.run(source, ["true"], "--option", "no-such-option=1")
    else:
        program = rig.work / "no-program"
        program.write_text("no line with an interpreter\n")
        program.chmod(0o755)
        between = rig.run(source, [str(program)])
    assert between.code in {2, 69}, between
    assert "model.bin" not in between.err
    told = rig.run(source, ["true"])
    assert told.code == 75, told
    assert "not proven: model.bin (5,000 bytes): it did not reach the mount" in told.err
    # Nor is it forgotten by another such start that it was named.
    assert rig.run(source, ["true"], "--option", "no-such-option=1").code == 69
    again = rig.run(source, ["true"])
    assert again.code == 0, again


@pytest.mark.fault(42)
def test_what_missed_a_mount_that_somebody_discards_is_named_by_its_run(
    rig: Rig, bucket: Bucket
) -> None:
    with bystander(rig, f"{PLAIN} model.bin"):
        job = rig.begin(f"s3://{bucket.name}/run", rig.light("say:up", "say:there", "wait:go"))
        rig.await_word("there", job)
        rig.await_word("written", job)
    assert rig.umount("--discard").code == 0
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "not proven: model.bin (5,000 bytes): it did not reach the mount" in answer.err


@pytest.mark.fault(11, 42)
def test_a_checkpoint_that_lacks_what_missed_the_mount_again_is_never_proven(
    rig: Rig, bucket: Bucket
) -> None:
    for _ in range(2):
        line = f"mkdir -p checkpoint-10 && {PLAIN} checkpoint-10/optimizer.pt"
        answer = run_beside(rig, bucket, line, "many:10:3")
        assert answer.code == 75, answer
        assert bucket.manifest("run/checkpoint-10") is None
        assert latest(rig, bucket).code == 1
    # Once all of it reaches the mount, it is a checkpoint.
    answer = rig.run(f"s3://{bucket.name}/run", rig.light("many:10:3"))
    assert answer.code == 0, answer
    assert bucket.files("run/checkpoint-10") == many(10, 3)
    assert latest(rig, bucket).out.strip() == f"s3://{bucket.name}/run/checkpoint-10"


@pytest.mark.fault(11, 42)
def test_nor_is_it_where_umount_drains_what_a_supervisor_in_the_background_holds(
    rig: Rig, bucket: Bucket
) -> None:
    line = f"mkdir -p checkpoint-10 && {PLAIN} checkpoint-10/optimizer.pt"
    with bystander(rig, line):
        assert rig.mount(f"s3://{bucket.name}/run").code == 0
        rig.script("many:10:3", "say:up", "wait:written")
    answer = rig.umount()
    assert answer.code == 75, answer
    assert bucket.manifest("run/checkpoint-10") is None
    assert latest(rig, bucket).code == 1
    assert answer.err.count("checkpoint-10/optimizer.pt (5,000 bytes)") == 1
    # It lies where it was written, and the rest is in the bucket.
    assert rig.mounts() == []
    assert (rig.target / "checkpoint-10" / "optimizer.pt").stat().st_size == SIZE
    assert bucket.files("run/checkpoint-10") == many(10, 3)
