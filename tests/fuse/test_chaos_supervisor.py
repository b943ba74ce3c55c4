"""A supervisor, and a whole run, that is killed or told to end at random moments."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from light import checkpoint
from saving import STEPS_BETWEEN, files

from support.assertions import assert_proven
from support.chaos import QUICK, Saves, assert_the_truth, let_pass, proven_in, seeded, strike
from support.rig import eventually

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

MANY = int(os.environ.get("MOUNTKIT_TEST_MANY") or 4)
KILLS = 4

# Keeps the mount busy until it is told to stop: by an open file, or by standing in it.
HOLD = {
    "reading": "held = open(sys.argv[1] + '/checkpoint-10/model.safetensors', 'rb'); held.read(10)",
    "standing": "os.chdir(sys.argv[1] + '/checkpoint-10')",
    "writing": "held = open(sys.argv[1] + '/notes.txt', 'wb'); held.write(b'half'); held.flush()",
}
HOLDER = """
import os, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from light import wait_for
{hold}
(Path(sys.argv[2]) / sys.argv[4]).touch()
wait_for(Path(sys.argv[2]) / "go")
try:
    held.close()
except (NameError, OSError):
    pass
"""


@pytest.mark.chaos
@pytest.mark.fault(6, 7, 9, 37)
@pytest.mark.parametrize("how", ["plain", "prove"])
def test_a_supervisor_that_is_killed_again_and_again(rig: Rig, bucket: Bucket, how: str) -> None:
    chance = seeded(rig.backend, how)
    rig.settings.update(QUICK)
    source = f"s3://{bucket.name}/run"
    saves = Saves(rig)
    mounted = rig.mount(source)
    assert mounted.code == 0, mounted
    job = rig.start(*saves.command("--how", how, "--pause", "0.2"), limit=200)
    saves.await_more(job)
    adopted = 0
    for _ in range(KILLS):
        let_pass(chance.uniform(0, 0.5))
        daemon = rig.daemon()
        rig.kill(rig.supervisor())
        alone = chance.random() < 0.5
        if not alone:
            # Nobody repairs it, and whoever saves has to wait.
            rig.kill(daemon)
        elif how == "plain":
            saves.await_more(job)
        again = rig.mount(source)
        assert again.code == 0, again
        adopted += rig.daemon().pid == daemon.pid
        assert (rig.daemon().pid == daemon.pid) == alone
    rig.say("enough")
    ended = job.wait()
    assert ended.code == 0, f"{ended}\n{saves}"
    answer = rig.umount()
    assert_the_truth(bucket, saves, answer)
    if answer.code:
        assert rig.umount("--discard").code == 0


@pytest.mark.chaos
@pytest.mark.fault(6, 7, 9, 11, 22, 37)
@pytest.mark.parametrize("how", ["plain", "prove"])
def test_a_run_that_is_killed_and_started_again(rig: Rig, bucket: Bucket, how: str) -> None:
    chance = seeded(rig.backend, how)
    rig.settings.update(QUICK)
    source = f"s3://{bucket.name}/run"
    saves = Saves(rig)
    first, seen = 10, set()
    for _ in range(KILLS):
        job = rig.begin(source, saves.command("--how", how, "--first", str(first)))
        saves.await_more(job, "begin")
        let_pass(chance.uniform(0, 1.5))
        daemon = rig.daemon()
        # With the command, as at the end of a container, and mostly with the daemon.
        os.killpg(job.process.pid, signal.SIGKILL)
        if chance.random() < 0.7:
            strike(daemon, signal.SIGKILL)
        job.process.wait()
        seen.update(proven_in(bucket))
        # As a training that resumes: what was not proven is done and saved once more.
        first = max(seen, default=first - STEPS_BETWEEN) + STEPS_BETWEEN
    rig.say("enough")
    answer = rig.run(source, saves.command("--how", how, "--first", str(first), "--count", "2"))
    assert answer.code == 0, f"{answer}\n{saves}"
    proven = proven_in(bucket)
    assert seen <= set(proven), f"{answer}\n{saves}"
    assert {first, first + STEPS_BETWEEN} <= set(proven), f"{answer}\n{saves}"
    for step in proven:
        assert_proven(bucket, f"run/checkpoint-{step}", files(step))
    latest = rig.ask("latest", source)
    # What a killed run has left at a higher step is proven, and not what the last one goes on from.
    assert latest.out.strip() == f"{source}/checkpoint-{first + STEPS_BETWEEN}"


@pytest.mark.chaos
@pytest.mark.fault(4, 5)
@pytest.mark.parametrize("number", range(MANY))
def test_sigterm_within_two_seconds_after_a_save(rig: Rig, bucket: Bucket, number: int) -> None:
    chance = seeded(rig.backend, number)
    saves = Saves(rig)
    how = chance.choice(["plain", "prove"])
    pause = chance.choice(["0.05", "3"])
    job = rig.begin(f"s3://{bucket.name}/run", saves.command("--how", how, "--pause", pause))
    saves.await_more(job, count=chance.choice([1, 1, 3]) if pause == "0.05" else 1)
    let_pass(chance.uniform(0, 2))
    job.process.send_signal(signal.SIGTERM)
    answer = job.wait()
    assert answer.code == 128 + signal.SIGTERM, f"{answer}\n{saves}"
    # The store was there all the time, so that nothing had to be given up.
    proven = proven_in(bucket)
    assert set(saves.told("saved")) <= set(proven), f"{answer}\n{saves}"
    for step in proven:
        assert_proven(bucket, f"run/checkpoint-{step}", files(step))
    assert "not proven: " not in answer.err.replace("not proven: checkpoint-", ""), answer


@pytest.mark.fault(40)
def test_those_who_still_use_the_mount_do_not_keep_it(rig: Rig, bucket: Bucket) -> None:
    assert rig.mount(f"s3://{bucket.name}/run", *rig.late).code == 0
    rig.script("save:10")
    jobs = {hold: rig.start(*holder(rig, hold)) for hold in ("reading", "standing")}
    for hold, job in jobs.items():
        rig.await_word(hold, job)
    answer = rig.umount()
    assert answer.code == 0, answer
    assert rig.mounts() == []
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    rig.say("go")
    for job in jobs.values():
        assert job.wait().code == 0


@pytest.mark.fault(5, 40)
@pytest.mark.parametrize("drained", [True, False])
def test_whoever_interrupts_again_and_again_leaves_no_mount(
    rig: Rig, bucket: Bucket, drained: bool
) -> None:
    gate = rig.gate()
    source = f"s3://{bucket.name}/run"
    stays = " ".join(map(shlex.quote, holder(rig, "standing")))
    saves = " ".join(rig.light("save:10"))
    command = ["sh", "-c", f"{saves}; {stays} & exec {' '.join(rig.light('say:up', 'wait:end'))}"]
    job = rig.begin(source, command, *rig.late, endpoint=gate.url)
    rig.await_word("standing", job)
    daemon = rig.daemon()
    if not drained:
        gate.shut()
    rig.say("end")
    # Until then an interrupt is the command's.
    eventually(lambda: "the command ended" in job.err, "draining")
    if drained:
        # It goes on once nobody serves but for the one who stands there.
        eventually(lambda: bucket.manifest("run/checkpoint-10"), "proven")
    while rig.record() is not None:
        assert not job.ended(), job.wait()
        job.process.send_signal(signal.SIGINT)
        let_pass(0.1)
    answer = job.wait()
    assert answer.code in ({0, 75} if drained else {75}), answer
    assert rig.record() is None, answer
    assert rig.mounts() == []
    assert not alive(daemon), answer
    assert "unmounting" in answer.err
    gate.open()
    again = rig.run(source, rig.light("exit:0"), endpoint=gate.url)
    assert again.code == 0, again
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    rig.say("go")


@pytest.mark.fault(14, 40)
def test_a_file_that_is_being_written_keeps_the_mount_and_is_named(
    rig: Rig, bucket: Bucket
) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    assert rig.mount(f"s3://{bucket.name}/run", *rig.late).code == 0
    rig.script("save:10")
    job = rig.start(*holder(rig, "writing"))
    rig.await_word("writing", job)
    refused = rig.umount()
    assert refused.code == 75, refused
    assert "notes.txt" in refused.err
    assert rig.mounts() == [str(rig.target)]
    rig.say("go")
    assert job.wait().code == 0
    answer = rig.umount()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert bucket.files("run")["notes.txt"] == b"half"


def holder(rig: Rig, hold: str) -> list[str]:
    from support.rig import SCRIPTS

    text = HOLDER.format(hold=HOLD[hold])
    return [sys.executable, "-c", text, str(rig.target), str(rig.gates), str(SCRIPTS), hold]


def alive(process: psutil.Process) -> bool:
    """Whether it runs; where nobody reaps orphans it stays a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
