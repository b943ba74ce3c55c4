"""The file for sbatch: what is in it, what its shells do, and what is refused."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mountkit.errors import UsageError
from mountkit.slurm.epilog import EPILOG
from mountkit.slurm.job import TASK, Job, check, parse_option, render, seconds_of
from support.stores import until

JOB = Job("s3://bucket/run-1", "/mnt/run-1", ("python", "train.py"), grace=30)
MANY = replace(JOB, nodes=4, command=("torchrun", "--nproc-per-node", "8", "train.py"))


def directives(text: str) -> list[str]:
    """What sbatch reads: up to the first line that is neither a comment nor empty."""
    found = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            break
        if line.startswith("#SBATCH "):
            found.append(line.removeprefix("#SBATCH "))
    return found


class TestFile:
    def test_what_sbatch_reads(self):
        job = replace(
            JOB, time="1-0", partition="gpu", sbatch=(("gpus-per-node", "8"), ("exclusive", ""))
        )
        assert directives(render(job)) == [
            "--job-name=run-1",
            "--partition=gpu",
            "--time=1-0",
            "--nodes=1",
            "--ntasks-per-node=1",
            "--requeue",
            "--open-mode=append",
            "--signal=TERM@60",
            "--gpus-per-node=8",
            "--exclusive",
        ]

    @pytest.mark.parametrize(
        ("source", "name"),
        [
            ("s3://bucket", "bucket"),
            ("s3://bucket/a/b/", "b"),
            ("s3://bucket/a b'c", "a-b-c"),
            ("s3://bucket/日本", "--"),
        ],
    )
    def test_the_job_is_named_after_its_place(self, source, name):
        assert directives(render(replace(JOB, source=source)))[0] == f"--job-name={name}"

    def test_a_value_with_blanks_is_one_value(self):
        job = replace(JOB, sbatch=(("comment", "a b # c"),))
        assert directives(render(job))[-1] == "--comment='a b # c'"

    @pytest.mark.parametrize("job", [JOB, MANY])
    def test_a_shell_reads_it(self, job):
        for text in (render(job), TASK, EPILOG):
            checked = subprocess.run(
                ["bash", "-n"], input=text.encode(), capture_output=True, check=False
            )
            assert (checked.returncode, checked.stderr) == (0, b"")
        # It stands between two of them.
        assert "'" not in TASK

    def test_only_many_nodes_meet(self):
        assert "MASTER_ADDR" not in render(JOB)
        assert "scontrol show hostnames" in render(MANY)

    def test_lines_to_begin_with_are_no_options_of_sbatch(self):
        text = render(replace(JOB, setup=("module load cuda", "#SBATCH --array=1-9")))
        assert "module load cuda\n#SBATCH --array=1-9\n" in text
        assert not any("array" in each for each in directives(text))


class Cluster:
    """A machine with programs of Slurm that note what they are called with."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.bin = place / "bin"
        self.bin.mkdir()
        self.patience = 15
        self.job = "JobId=7 JobState=RUNNING Reason=None Requeue=1 Restarts=0 BatchFlag=1"
        # As a real one it runs the task, here on this machine.
        self.program(
            "srun",
            'while [ "$1" != /bin/bash ]; do shift; done\n'
            '[ "${SLURM_EXPORT_ENV:-ALL}" = ALL ] || '
            'set -- env -i PATH="$PATH" PLACE="$PLACE" SLURM_NNODES="$SLURM_NNODES" "$@"\n'
            'SLURM_NODEID=0 "$@" & echo $! >"$PLACE/task"\n'
            'wait $!; code=$?; exit "${SRUN_CODE:-$code}"',
        )
        self.program("scancel", f'echo "scancel $*" >>{place}/calls')
        self.program(
            "scontrol",
            f'echo "scontrol $*" >>{place}/calls\n'
            f'[ "$2" != job ] || [ ! -s {place}/away ] || {{ sed -i 1d {place}/away; exit 1; }}\n'
            f'case "$2" in job) cat {place}/job ;; hostnames) printf "n1\\nn2\\n" ;; esac\n'
            f'[ "$1" != requeue ] || [ ! -e {place}/forbidden ]',
        )
        self.program(
            "mountkit",
            'printf "%s\\0" "$@" >"$PLACE/words"; env -0 >"$PLACE/environment"\n'
            # It would end by the signal at once, and is to end with its code.
            'trap "" TERM\n'
            'echo $$ >"$PLACE/runs"\n'
            'while [ -e "$PLACE/wait" ]; do sleep 0.02; done\n'
            'exit "${CODE:-0}"',
        )

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def start(self, job: Job, **env: str) -> subprocess.Popen[bytes]:
        (self.place / "job").write_text(f"{self.job}\n")
        script = self.place / "job.sh"
        script.write_text(render(job).replace("patience=15\n", f"patience={self.patience}\n"))
        values = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PLACE": str(self.place),
            "SLURM_JOB_ID": "7",
            "SLURM_NNODES": str(job.nodes),
            "SLURM_JOB_NODELIST": "n[1-2]",
            **env,
        }
        # A shell that was started with a signal ignored cannot trap it: as Slurm starts it.
        words = ["env", "--default-signal", "bash", script]
        return subprocess.Popen(words, env=values, stderr=subprocess.PIPE)

    def run(self, job: Job = JOB, **env: str) -> tuple[int, str]:
        process = self.start(job, **env)
        _, told = process.communicate(timeout=30)
        return process.returncode, told.decode()

    @property
    def words(self) -> list[str]:
        """What mountkit was called with."""
        return (self.place / "words").read_text().split("\0")[:-1]

    @property
    def environment(self) -> dict[str, str]:
        """What mountkit had."""
        found = (self.place / "environment").read_text().split("\0")[:-1]
        return dict(one.split("=", 1) for one in found)

    @property
    def requeued(self) -> bool:
        return "scontrol requeue 7" in self.calls

    @property
    def calls(self) -> list[str]:
        path = self.place / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    return Cluster(tmp_path)


class TestShell:
    def test_mountkit_gets_the_words_as_they_are(self, cluster):
        words = ("python", "it's", "$HOME", "`id`", "a b", "*", "", '"', "\\", "--", "#x", "a\nb")
        job = replace(JOB, command=words, mountkit=("mountkit", "run", "--option=a=b c"))
        assert cluster.run(job)[0] == 0
        assert cluster.words == [
            *("run", "--option=a=b c", "--grace", "30", "s3://bucket/run-1", "/mnt/run-1", "--"),
            *words,
        ]

    def test_its_environment(self, cluster):
        cluster.run(XDG_RUNTIME_DIR="/run/user/1000", SLURM_CPUS_PER_TASK="6")
        env = cluster.environment
        assert (env["MOUNTKIT_RESUME"], env["MOUNTKIT_NODE"]) == ("1", "0")
        assert env["SRUN_CPUS_PER_TASK"] == "6"
        assert "XDG_RUNTIME_DIR" not in env

    def test_nodes_get_it_where_sbatch_was_told_to_export_nothing(self, cluster):
        cluster.run(MANY, SLURM_EXPORT_ENV="NONE")
        env = cluster.environment
        assert (env["MOUNTKIT_RESUME"], env["PET_NNODES"]) == ("1", "4")

    def test_a_line_that_ends_the_shell_on_errors_is_for_the_lines_beside_it(self, cluster):
        strict = replace(JOB, setup=("set -euo pipefail",))
        assert cluster.run(strict, CODE="75")[0] == 0
        assert cluster.requeued
        assert cluster.run(strict, CODE="2")[0] == 2

    def test_who_wants_no_resume_is_heard(self, cluster):
        cluster.run(MOUNTKIT_RESUME="0")
        assert cluster.environment["MOUNTKIT_RESUME"] == "0"

    def test_many_nodes_know_where_they_meet(self, cluster):
        cluster.run(MANY)
        env = cluster.environment
        assert env["MASTER_ADDR"] == env["PET_MASTER_ADDR"] == "n1"
        assert env["MASTER_PORT"] == env["PET_MASTER_PORT"] == "20007"
        assert (env["PET_NNODES"], env["PET_NODE_RANK"]) == ("4", "0")

    def test_a_file_is_for_so_many_nodes(self, cluster):
        code, told = cluster.run(SLURM_NNODES="2")
        assert code == 2
        assert "make another file with --nodes 2" in told
        assert not (cluster.place / "words").exists()

    @pytest.mark.parametrize("code", [0, 1, 2, 3, 74, 77, 78, 130, 137])
    def test_an_end_that_is_one(self, cluster, code):
        assert cluster.run(CODE=str(code))[0] == code
        assert not cluster.requeued

    @pytest.mark.parametrize("code", [69, 75])
    @pytest.mark.parametrize(("restarts", "again"), [(0, True), (2, True), (3, False)])
    def test_what_may_pass_is_tried_again_so_often(self, cluster, code, restarts, again):
        job = replace(JOB, restarts=3)
        cluster.job = cluster.job.replace("Restarts=0", f"Restarts={restarts}")
        found, _ = cluster.run(job, CODE=str(code), SLURM_RESTART_COUNT=str(restarts))
        assert cluster.requeued is again
        assert found == (0 if again else code)

    @pytest.mark.parametrize(
        ("code", "again"), [(0, 0), (1, 0), (143, 0), (75, 0), (2, 2), (77, 77), (78, 78)]
    )
    def test_one_that_slurm_asked_to_end_comes_back_unless_that_cannot_help(
        self, cluster, code, again
    ):
        (cluster.place / "wait").touch()
        process = cluster.start(JOB, CODE=str(code))
        self.end_task(cluster, signal.SIGTERM)
        _, told = process.communicate(timeout=30)
        assert process.returncode == again
        assert cluster.requeued is (again == 0), told
        assert b"node 0 was sent SIGTERM" in told

    @pytest.mark.parametrize("attempt", range(5))
    def test_no_signal_makes_it_lose_the_code(self, cluster, attempt):
        """bash 5.2 does, of every fourth, where it waits when the process ends."""
        (cluster.place / "wait").touch()
        process = cluster.start(JOB, CODE="77")
        task = self.running_task(cluster)
        mountkit = int((cluster.place / "runs").read_text())
        (cluster.place / "wait").unlink()
        while Path(f"/proc/{mountkit}").exists():
            os.kill(task, signal.SIGTERM)
            # Without a pause bash itself dies of so many.
            time.sleep(0.0001)
        process.communicate(timeout=30)
        assert process.returncode == 77

    @pytest.mark.parametrize("code", [0, 1, 143])
    def test_one_whose_peer_has_ended_leaves_the_code_to_that_one(self, cluster, code):
        (cluster.place / "wait").touch()
        process = cluster.start(MANY, CODE=str(code))
        self.end_task(cluster, signal.SIGHUP)
        process.communicate(timeout=30)
        assert process.returncode == 0
        assert not cluster.requeued

    def test_a_node_that_fails_ends_the_others_and_keeps_its_code(self, cluster):
        assert cluster.run(MANY, CODE="3")[0] == 3
        assert cluster.calls.count("scancel --signal=HUP 7") == 1

    @pytest.mark.parametrize(("job", "code"), [(MANY, "0"), (JOB, "3")])
    def test_nobody_else_is_ended_where_there_is_none_or_all_is_well(self, cluster, job, code):
        assert cluster.run(job, CODE=code)[0] == int(code)
        assert not any("scancel" in call for call in cluster.calls)

    @pytest.mark.parametrize(
        "job",
        [
            "JobId=7 JobState=COMPLETING Reason=None Requeue=1 Restarts=0 BatchFlag=1",
            "JobId=7 JobState=CANCELLED Reason=None Requeue=1 Restarts=0 BatchFlag=1",
            # The node was given up, and the job runs elsewhere.
            "JobId=7 JobState=RUNNING Reason=None Requeue=1 Restarts=1 BatchFlag=1",
            "",
        ],
    )
    def test_a_job_that_is_over_or_not_this_one_is_left_alone(self, cluster, job):
        cluster.job = job
        assert cluster.run(CODE="75")[0] == 75
        assert not cluster.requeued

    def test_slurmctld_may_be_away_for_a_moment(self, cluster):
        (cluster.place / "away").write_text("once\n")
        assert cluster.run(CODE="75")[0] == 0
        assert cluster.requeued

    @pytest.mark.parametrize("forbidden", [True, False])
    def test_where_it_does_not_come_back_it_is_tried_all_the_same(self, cluster, forbidden):
        cluster.patience = 0
        (cluster.place / "away").write_text("again\n" * 9)
        if forbidden:
            (cluster.place / "forbidden").touch()
        code, told = cluster.run(CODE="75")
        assert code == (75 if forbidden else 0)
        assert "Slurm does not say what became of the job" in told
        assert ("by hand: scontrol requeue 7" in told) is forbidden

    def test_where_nobody_may_submit_it_again_it_says_how(self, cluster):
        (cluster.place / "forbidden").touch()
        code, told = cluster.run(CODE="69")
        assert code == 75
        assert "by hand: scontrol requeue 7" in told

    @pytest.mark.parametrize("code", [1, 127, 143])
    def test_a_step_that_could_not_run(self, cluster, code):
        assert cluster.run(SRUN_CODE=str(code))[0] == code
        assert not cluster.requeued

    def end_task(self, cluster, number):
        """Send a signal to the shell around mountkit, as Slurm does; then mountkit ends."""
        os.kill(self.running_task(cluster), number)
        (cluster.place / "wait").unlink()

    def running_task(self, cluster) -> int:
        """The process of the shell around mountkit, once mountkit runs in it."""
        task = cluster.place / "task"
        runs = cluster.place / "runs"
        until(lambda: all(path.exists() and path.read_text() for path in (runs, task)))
        return int(task.read_text())


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"command": ()}, "no command to run"),
            ({"target": "run-1"}, "run-1 is not an absolute path"),
            ({"target": "~/run-1"}, "~/run-1 is not an absolute path"),
            ({"name": "a\n#SBATCH --array=1"}, "not one line"),
            ({"partition": "gpu; id"}, "not the name of a partition"),
            ({"partition": "gpu,"}, "not the name of a partition"),
            ({"grace": 65536}, "more than Slurm's --signal takes"),
            ({"time": "soon"}, "no time limit"),
            ({"time": "1:2:3"}, "no time limit"),
            ({"time": "2"}, "leaves nothing"),
            ({"time": "00:02:00"}, "leaves nothing"),
            ({"time": "0"}, "leaves nothing"),
            ({"nodes": 2}, "a training of its own on each"),
            ({"nodes": 2, "command": ("/usr/bin/python3.11", "-m", "train")}, "of its own on each"),
            ({"nodes": 2, "command": ("accelerate", "launch", "t.py")}, "of its own on each"),
            ({"nodes": 2, "command": ("deepspeed", "t.py")}, "of its own on each"),
            ({"nodes": 2, "command": ("/usr/bin/mpirun", "python", "t.py")}, "of its own on each"),
            ({"nodes": 2, "command": ("torchrun", "--standalone", "t.py")}, "to one node"),
            ({"mountkit": ("mountkit", "run", "--cache-dir", "$SLURM_TMPDIR/c")}, "A variable in"),
            ({"nodes": 2, "source": "file:///l/run", "target": "/l/run/"}, "nodes cannot save"),
        ],
    )
    def test_what_cannot_work(self, change, says):
        with pytest.raises(UsageError, match=re.escape(says)) as told:
            check(replace(JOB, **change), {})
        assert told.value.hint

    @pytest.mark.parametrize(
        "change",
        [
            {"time": "3"},
            {"time": "1-0", "partition": "gpu,low.1"},
            {"nodes": 2, "command": ("torchrun", "t.py")},
            {"nodes": 2, "command": ("python", "-m", "torch.distributed.run", "t.py")},
            {"nodes": 2, "command": ("./train.sh",)},
            {"command": ("torchrun", "--standalone", "t.py")},
        ],
    )
    def test_what_can(self, change):
        check(replace(JOB, **change), {})

    @pytest.mark.parametrize(
        "change",
        [
            {"command": ("python", "train.py", "--hub_token=hf_abcdefgh")},
            {"setup": ("export HF_TOKEN=hf_abcdefgh",)},
            {"sbatch": (("export", "HF_TOKEN=hf_abcdefgh"),)},
            {"mountkit": ("mountkit", "run", "--endpoint-url=http://k:hf_abcdefgh@host")},
        ],
    )
    def test_a_secret_of_the_environment(self, change):
        job = replace(JOB, **change)
        with pytest.raises(UsageError, match="HF_TOKEN would stand in the file") as told:
            check(job, {"HF_TOKEN": "hf_abcdefgh"})
        assert "hf_abcdefgh" not in str(told.value)
        # No name of a secret; too short for one.
        check(job, {"HOME": "hf_abcdefgh", "MY_TOKEN": "hf_"})

    @pytest.mark.parametrize(
        ("text", "option"),
        [
            ("gpus-per-node=8", ("gpus-per-node", "8")),
            ("--exclusive", ("exclusive", "")),
            ("comment=a=b c", ("comment", "a=b c")),
        ],
    )
    def test_another_option_of_sbatch(self, text, option):
        assert parse_option(text) == option

    @pytest.mark.parametrize(
        "text",
        ["", "=8", "Gpus=8", "gpus 8", "a=b\nc", "--", "requeue", "--no-requeue", "signal=x"],
    )
    def test_one_that_is_none_or_the_files_own(self, text):
        with pytest.raises(UsageError, match="--sbatch"):
            parse_option(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400),
        ("1:30", 90),
        ("24:00:00", 86400),
        ("2-0", 172800),
        ("1-12:30", 131400),
        ("1-00:00:01", 86401),
        ("-1", None),
        ("1:2", None),
        ("1d", None),
        ("", None),
    ],
)
def test_a_time_limit_as_sbatch_reads_it(text, seconds):
    assert seconds_of(text) == seconds
