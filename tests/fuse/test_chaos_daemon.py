"""A daemon that is killed and stopped at random moments of a run that saves all the time."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from light import checkpoint
from saving import files

from mountkit.state.record import SERVING
from support.assertions import assert_proven
from support.chaos import QUICK, Saves, assert_the_truth, let_pass, proven_in, seeded, strike
from support.rig import SCRIPTS, eventually

if TYPE_CHECKING:
    from support.rig import Bucket, Job, Rig

# Over both backends and both ways of proving, 32 at least.
STRIKES = 8
DAEMONS = {"rclone", "mount-s3"}

# A program that goes on as if nothing had happened when one of its files cannot be written.
CARELESS = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from light import checkpoint, wait_for

top, gates = Path(sys.argv[2]) / "checkpoint-20", Path(sys.argv[3])
for name, data in checkpoint(20).items():
    path = top / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("wb") as stream:
            stream.write(data[:20_000])
            stream.flush()
            if name == "model.safetensors":
                (gates / "half").touch()
                wait_for(gates / "go")
            stream.write(data[20_000:])
    except OSError as error:
        print("passed over:", error, file=sys.stderr)
"""

# One that makes its directory anew for each file, and so does not see that it is another one.
ASTRAY = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from light import checkpoint, wait_for

top, gates = Path(sys.argv[2]) / "checkpoint-20", Path(sys.argv[3])
for name, data in checkpoint(20).items():
    if name == "optimizer.pt":
        (gates / "ready").touch()
        wait_for(gates / "gone")
    (top / name).parent.mkdir(parents=True, exist_ok=True)
    (top / name).write_bytes(data)
    if name == "optimizer.pt":
        (gates / "astray").touch()
        wait_for(gates / "back")
"""


def daemons(rig: Rig) -> list[psutil.Process]:
    """The daemons that run for this test's mount, one that just begins to mount included."""
    found = []
    for process in rig.processes():
        words = rig.words(process).split()
        if words and Path(words[0]).name in DAEMONS:
            found.append(process)
    return found


def await_daemon(rig: Rig, job: Job, but: psutil.Process | None = None) -> psutil.Process:
    """The daemon that serves, once it does."""

    def serving() -> psutil.Process | None:
        assert not job.ended(), job.wait()
        record = rig.record()
        if record is None or record.daemon is None or record.state != SERVING:
            return None
        if not record.daemon.alive() or (but is not None and record.daemon.pid == but.pid):
            return None
        return psutil.Process(record.daemon.pid)

    return eventually(serving, f"serving again:\n{job.err}", 90)


@pytest.mark.chaos
@pytest.mark.fault(5, 6, 7, 8, 10, 11, 12, 13)
@pytest.mark.parametrize("how", ["plain", "prove"])
def test_a_daemon_that_dies_and_hangs_at_random_moments(rig: Rig, bucket: Bucket, how: str) -> None:
    chance = seeded(rig.backend, how)
    rig.settings.update(QUICK)
    saves = Saves(rig)
    # What the drain has to prove waits in the cache until then, where there is one.
    options = rig.late if how == "plain" else ()
    command = saves.command("--how", how)
    job = rig.begin(f"s3://{bucket.name}/run", command, *options, limit=240)
    struck = 0
    daemon = await_daemon(rig, job)
    saves.await_more(job)
    while struck < STRIKES:
        number = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP])
        let_pass(chance.uniform(0, 0.6))
        struck += strike(daemon, number)
        if number is signal.SIGKILL and chance.random() < 0.3:
            # Its successor as well, before it serves.
            [successor] = eventually(
                lambda last=daemon: [one for one in daemons(rig) if one.pid != last.pid],
                f"succeeded:\n{job.err}",
            )
            let_pass(chance.uniform(0, 0.3))
            struck += strike(successor, number)
            daemon = successor
        daemon = await_daemon(rig, job, but=daemon)
        if chance.random() < 0.5:
            saves.await_more(job)
    rig.say("enough")
    rig.await_text("the command ended", job)
    let_pass(chance.uniform(0, 1))
    strike(daemon, signal.SIGKILL)
    answer = job.wait()
    assert_the_truth(bucket, saves, answer)

    # Whatever waits, or is torn, is the next run's; what is right stays right.
    again = rig.run(f"s3://{bucket.name}/run", rig.light("exit:0"), *options)
    assert again.code == 0, f"{again}\n{answer}\n{saves}"
    for step in proven_in(bucket):
        assert_proven(bucket, f"run/checkpoint-{step}", files(step))


def script(rig: Rig, text: str) -> list[str]:
    return [sys.executable, "-c", text, str(SCRIPTS), str(rig.target), str(rig.gates)]


def assert_never_proven(rig: Rig, bucket: Bucket, step: int) -> None:
    """Neither by the next run nor by the one after it."""
    assert bucket.manifest(f"run/checkpoint-{step}") is None
    for _ in range(2):
        rig.run(f"s3://{bucket.name}/run", rig.light("exit:0"), *rig.late)
        assert bucket.manifest(f"run/checkpoint-{step}") is None


@pytest.mark.fault(2, 7, 11)
def test_a_file_that_was_cut_short_in_silence_is_never_proven(rig: Rig, bucket: Bucket) -> None:
    # The supervisor has asked the mount just before, as it does all the time, and is answered.
    rig.settings.update(QUICK)
    job = rig.begin(f"s3://{bucket.name}/run", script(rig, CARELESS), *rig.late)
    rig.await_word("half", job)
    rig.kill(rig.daemon())
    rig.await_remount()
    rig.say("go")
    answer = job.wait()
    assert "passed over" in answer.err, answer
    assert answer.code == 75, answer
    assert "checkpoint-20" in answer.err
    assert_never_proven(rig, bucket, 20)


@pytest.mark.fault(7, 11)
@pytest.mark.parametrize("watched", [True, False])
def test_one_that_was_given_up_is_never_proven_either(
    rig: Rig, bucket: Bucket, watched: bool
) -> None:
    rig.settings.update(QUICK)
    assert rig.mount(f"s3://{bucket.name}/run", *rig.late).code == 0
    job = rig.start(*script(rig, CARELESS))
    rig.await_word("half", job)
    rig.kill(rig.daemon())
    rig.await_remount()
    rig.say("go")
    assert "passed over" in job.wait().err
    if not watched:
        rig.kill(rig.supervisor())
    assert rig.umount("--discard").code == 0
    assert_never_proven(rig, bucket, 20)


@pytest.mark.fault(6, 7)
def test_a_file_that_went_astray_is_missed_by_every_later_run(rig: Rig, bucket: Bucket) -> None:
    job = rig.begin(f"s3://{bucket.name}/run", script(rig, ASTRAY), *rig.late)
    rig.await_word("ready", job)
    # Nobody repairs it until the bare directory has been written to.
    job.process.send_signal(signal.SIGSTOP)
    rig.kill(rig.daemon())
    assert rig.start("fusermount3", "-u", "-z", rig.target).wait().code == 0
    rig.say("gone")
    rig.await_word("astray", job)
    job.process.send_signal(signal.SIGCONT)
    rig.await_remount()
    rig.say("back")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "checkpoint-20/optimizer.pt" in answer.err
    [kept] = rig.cache.rglob("strays/*/checkpoint-20/optimizer.pt")
    assert kept.read_bytes() == checkpoint(20)["optimizer.pt"]
    assert_never_proven(rig, bucket, 20)
