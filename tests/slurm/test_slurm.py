"""Jobs on a real Slurm: preempted, at their time limit, on a node that is lost, and refused."""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from support.chaos import proven_in
from support.installed import needs
from support.rig import eventually
from support.slurm_run import SlurmRun
from support.training import Training

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.rig import Bucket, Rig
    from support.slurm import Slurm

needs("transformers", "torch")


@pytest.fixture
def run(rig: Rig, bucket: Bucket, slurm: Slurm) -> SlurmRun:
    return SlurmRun(rig, bucket, slurm)


@pytest.mark.cached
@pytest.mark.timeout(600)
@pytest.mark.fault(5, 22, 37)
def test_a_run_ends_proven_after_two_preemptions_a_time_limit_and_the_loss_of_its_slurmd(
    run: SlurmRun,
) -> None:
    rig, slurm = run.rig, run.slurm
    steps = ["--steps", "10", "--save-steps", "2"]
    alone = Training(rig, "alone", rig.work / "local")
    undisturbed = rig.start(*alone.command(*steps, "--callback", "none", "--fresh"))
    training = Training(rig)
    pauses = [word for step in (3, 5, 7, 9) for word in ("--pause-at", str(step))]
    number = run.submit(training.from_the_start(*steps, *pauses), "--time=20", "--partition=low")
    # Preempted: the training ends, what it has saved is proven, and the job comes back.
    for life, step in enumerate((3, 5), 1):
        run.await_word(f"at-{step}")
        other = run.preempt()
        run.await_text("the job is submitted again", life)
        assert step - 1 in proven_in(run.bucket), run.told()
        rig.say(f"go-at-{step}")
        slurm.await_end(other)
    # The time limit.
    run.await_word("at-7")
    early = int(re.search(r"signal=TERM@(\d+)", (rig.work / "job.sbatch").read_text())[1])
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + early + 25))
    slurm.call("scontrol", "update", f"JobId={number}", f"EndTime={end}")
    run.await_text("the job is submitted again", 3)
    slurm.await_state(number, "PENDING")
    slurm.call("scontrol", "update", f"JobId={number}", "TimeLimit=20")
    rig.say("go-at-7")
    # Its slurmd: Slurm gives the job up, and ends what is left of it when the node is back.
    run.await_word("at-9")
    orphans = run.commands("train.py")
    assert orphans
    (rig.gates / "at-9").unlink()
    slurm.kill_node(slurm.names[0])
    eventually(lambda: slurm.restarts(number) == 4, "given up", 90)
    assert all(process.is_running() for process in orphans)
    slurm.start_node(slurm.names[0])
    eventually(lambda: not any(process.is_running() for process in orphans), "ended", 60)
    run.await_word("at-9")
    rig.say("go-at-9")
    job = slurm.await_end(number)
    found = (job["JobState"], job["ExitCode"], job["Restarts"])
    assert found == ("COMPLETED", "0:0", "4"), run.told()
    answer = undisturbed.wait()
    assert answer.code == 0, answer
    assert training.report["began_at"] == 8
    assert training.report["losses"] == alone.report["losses"]
    assert proven_in(run.bucket) == [2, 4, 6, 8, 10], run.told()
    assert rig.ask("verify", f"{run.source}/checkpoint-10").code == 0


@pytest.mark.fault(5, 6)
def test_what_a_preempted_job_had_not_uploaded_is_proven_before_it_comes_back(
    run: SlurmRun,
) -> None:
    # Slurm sends SIGTERM to every process of the step here, the daemon's too.
    command = run.rig.light("save:1:2000000", "say:saved", "wait:go")
    number = run.submit(command, "--partition=low", *run.rig.late)
    run.await_word("saved")
    other = run.preempt()
    run.await_text("the job is submitted again")
    assert proven_in(run.bucket) == [1], run.told()
    assert "not proven" not in run.told()
    assert run.slurm.await_end(other)["JobState"] == "COMPLETED"
    run.rig.say("go")
    job = run.slurm.await_end(number)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1"), run.told()


@pytest.mark.cached
def test_sbatch_takes_the_file_and_slurm_is_asked_for_its_limits(
    rig: Rig, bucket: Bucket, make_slurm: Callable[..., Slurm]
) -> None:
    run = SlurmRun(rig, bucket, make_slurm(grace=40, kill_wait=25))
    for partition, grace in (("low", 40), ("high", 25), ("high,low", 25)):
        more = [
            "--sbatch",
            "comment=it's # a b",
            "--sbatch",
            "exclusive",
            "--setup",
            "#SBATCH -N 9",
        ]
        file = run.file(["true"], f"--partition={partition}", "--time=1:00:00", *more)
        assert f"--grace {grace} " in file.read_text()
        run.slurm.call("sbatch", "--test-only", str(file))
        number = run.slurm.submit(file, "--hold")
        told = run.slurm.call("scontrol", "show", "job", number)
        assert "Comment=it's # a b" in told
        assert "JobName=run" in told
        assert "NumNodes=1" in told
        assert f"Partition={partition}" in told
        assert "Requeue=1" in told


@pytest.mark.cached
def test_a_cautious_file_comes_back_and_resumes(run: SlurmRun) -> None:
    """sbatch exports nothing, and the first line that is set up ends a shell on each error."""
    kept = run.rig.work / "environment"
    values = run.environment().items()
    kept.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in values))
    kept.chmod(0o600)
    command = ["sh", "-c", f"echo resume: $MOUNTKIT_RESUME >>{run.log}; exit 75"]
    more = ["--sbatch", "export=NONE", "--setup", "set -euo pipefail", "--setup", f". {kept}"]
    number = run.submit(command, *more)
    run.await_text("the job is submitted again")
    eventually(lambda: run.slurm.restarts(number) == 1, "submitted again")
    assert "resume: 1" in run.told()
    run.slurm.call("scancel", number)


@pytest.mark.cached
@pytest.mark.fault(18, 19)
def test_what_trying_again_would_not_help_ends_the_job(run: SlurmRun) -> None:
    command = run.rig.light("save:1", "exit:0")
    secret = {"AWS_SECRET_ACCESS_KEY": "another-secret-than-the-stores"}
    wrong = [
        (run.submit(command, **secret), 77),
        (run.submit(command, source="s3://no-such-bucket/run"), 78),
        (run.submit(run.rig.light("exit:2")), 2),
        (run.submit(run.rig.light("exit:3")), 3),
    ]
    for number, code in wrong:
        job = run.slurm.await_end(number)
        found = (job["JobState"], job["ExitCode"], job["Restarts"])
        assert found == ("FAILED", f"{code}:0", "0"), run.told()
    text = (run.rig.work / "job.sbatch").read_text()
    assert run.rig.server.secret_key not in text
    assert run.rig.server.access_key not in text


@pytest.mark.cached
@pytest.mark.fault(9, 12)
def test_a_job_that_was_killed_leaves_nothing_that_the_next_one_minds(
    rig: Rig, bucket: Bucket, make_slurm: Callable[..., Slurm]
) -> None:
    epilog = rig.work / "epilog"
    epilog.write_text("#!/bin/sh\n")
    epilog.chmod(0o755)
    run = SlurmRun(rig, bucket, make_slurm(more=f"Epilog={epilog}"))

    def kill_one(step: int) -> None:
        command = rig.light(f"save:{step}", f"say:saved-{step}", "wait:never")
        number = run.submit(command, *rig.late)
        run.await_word(f"saved-{step}")
        # As the kernel does where memory is short. The shell around them is too small.
        for process in [rig.supervisor(), rig.daemon(), *run.commands("light.py")]:
            with contextlib.suppress(psutil.NoSuchProcess):
                rig.kill(process)
        job = run.slurm.await_end(number)
        assert (job["JobState"], job["ExitCode"]) == ("FAILED", "137:0"), run.told()
        # Slurm says so before the node has cleaned up.
        eventually(run.slurm.idle, "idle")

    kill_one(1)
    assert rig.mounts() == [str(rig.target)]
    number = run.submit(rig.light("save:2"))
    assert run.slurm.await_end(number)["JobState"] == "COMPLETED", run.told()
    assert proven_in(bucket) == [1, 2], run.told()
    # With the Epilog the mount is gone before anybody else can walk into it.
    epilog.write_text(rig.mountkit("slurm", "--epilog").out)
    kill_one(3)
    assert rig.mounts() == []
    number = run.submit(rig.light("save:4"))
    assert run.slurm.await_end(number)["JobState"] == "COMPLETED", run.told()
    assert proven_in(bucket) == [1, 2, 3, 4], run.told()


class TestNodes:
    """Two of them on this machine; the second has a mount table, a state and a cache of its own."""

    @pytest.fixture
    def run(self, rig: Rig, bucket: Bucket, make_slurm: Callable[..., Slurm]) -> SlurmRun:
        return SlurmRun(rig, bucket, make_slurm(nodes=2))

    @pytest.mark.cached
    @pytest.mark.fault(27, 31)
    def test_torchrun_saves_one_checkpoint_of_both(self, run: SlurmRun) -> None:
        training = Training(run.rig)
        python, *words = training.from_the_start("--steps", "4", "--save-steps", "2")
        how = ["-m", "torch.distributed.run", "--nproc-per-node", "1"]
        number = run.submit([python, *how, *words], "--nodes=2")
        job = run.slurm.await_end(number)
        assert (job["JobState"], job["NodeList"]) == ("COMPLETED", "127.0.0.[1-2]"), run.told()
        assert proven_in(run.bucket) == [2, 4], run.told()
        names = {file["path"] for file in run.bucket.manifest("run/checkpoint-4")["files"]}
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= names
        assert names == set(run.bucket.files("run/checkpoint-4"))

    @pytest.mark.cached
    @pytest.mark.fault(5, 27)
    @pytest.mark.parametrize(("code", "state"), [(3, "FAILED"), (77, "FAILED"), (75, "PENDING")])
    def test_a_node_that_ends_takes_the_others_with_it_and_its_code_counts(
        self, run: SlurmRun, code: int, state: str
    ) -> None:
        first = shlex.join(run.rig.light("save:1", "say:saved", "wait:never"))
        second = shlex.join(run.rig.light("wait:saved", f"exit:{code}"))
        line = f'if [ "$MOUNTKIT_NODE" = 0 ]; then exec {first}; else exec {second}; fi'
        number = run.submit(["sh", "-c", line], "--nodes=2", *run.rig.late)
        run.await_text("node 0 ended with")
        job = run.slurm.await_state(number, state)
        if state == "FAILED":
            assert (job["ExitCode"], job["Restarts"]) == (f"{code}:0", "0"), run.told()
        else:
            run.slurm.call("scancel", number)
            assert job["Restarts"] == "1", run.told()
        assert "node 0 was sent SIGHUP" in run.told()
        # It was told to end, and did so in order: what it had written is proven.
        assert proven_in(run.bucket) == [1], run.told()
