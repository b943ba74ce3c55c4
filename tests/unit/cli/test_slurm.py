"""``mountkit slurm``: what the job is called with, and what is refused before a file is printed."""

from __future__ import annotations

import shlex

import pytest

from mountkit import cli

PLACE = ("s3://bucket/run-1", "/mnt/run-1")
COMMAND = ("--", "python", "train.py")


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Run the command; its exit code, stdout and stderr. No Slurm is on this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(["slurm", *words])
        captured = capfd.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


def called(text: str) -> list[str]:
    """What the job runs."""
    (line,) = [line for line in text.splitlines() if line.startswith("    mountkit run")]
    return shlex.split(line)


def test_the_options_of_a_run_are_passed_on(run):
    given = ["--backend=rclone", "--endpoint-url=http://store:9000", "--no-attach"]
    given += ["--cache-size=50GB", "--option=transfers=8"]
    code, out, err = run(*PLACE, *given, "--grace", "120", *COMMAND)
    assert code == 0
    _, _, *options = called(out)[: -len(COMMAND) - len(PLACE)]
    assert sorted(options) == sorted([*given, "--grace", "120"])
    assert called(out)[-5:] == [*PLACE, *COMMAND]
    assert "the job has 120 s (--grace)" in err
    assert "sbatch FILE" in err


def test_without_slurm_on_this_machine_its_default_is_taken_and_told(run):
    code, out, err = run(*PLACE, *COMMAND)
    assert code == 0
    assert "--grace 30" in out
    assert "#SBATCH --signal=TERM@60" in out
    assert "there is no scontrol on this machine" in err


def test_what_is_set_for_every_run_is_not_written_down(run, monkeypatch):
    monkeypatch.setenv("MOUNTKIT_BACKEND", "rclone")
    monkeypatch.setenv("MOUNTKIT_GRACE", "45.9")
    code, out, _ = run(*PLACE, *COMMAND)
    assert code == 0
    assert called(out)[:4] == ["mountkit", "run", "--grace", "45"]


def test_names_that_are_no_utf8_are_kept(run):
    code, out, _ = run(*PLACE, "--", "python", "caf\udce9.py")
    assert code == 0
    assert called(out)[-1].startswith("caf")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (COMMAND, 2, "Give SOURCE and TARGET."),
        (PLACE, 2, "no command to run"),
        ((*PLACE, "--"), 2, "no command to run"),
        ((*PLACE, "third", *COMMAND), 2, "Give SOURCE and TARGET."),
        (("bucket", "/mnt", *COMMAND), 2, "'bucket' is not a URL."),
        (("s3://bucket", "here", *COMMAND), 2, "here is not an absolute path"),
        ((*PLACE, "--node", "1", *COMMAND), 2, "--node is the job's own"),
        ((*PLACE, "--nodes", "0", *COMMAND), 2, "--nodes"),
        ((*PLACE, "--sbatch", "signal=USR1", *COMMAND), 2, "mountkit's own to set"),
        ((*PLACE, "--keep-local", "some", *COMMAND), 78, "Correct --keep-local."),
        ((*PLACE, "--grace", "0.5", *COMMAND), 2, "--grace 0"),
        ((*PLACE, "--option", "transfers", *COMMAND), 2, "not KEY=VALUE"),
        ((*PLACE, "--backend", "sshfs", *COMMAND), 2, "no backend called 'sshfs'"),
    ],
)
def test_what_cannot_work_prints_no_file(run, words, code, says):
    found, out, err = run(*words)
    assert (found, out) == (code, "")
    assert says in err


def test_the_epilog_needs_nothing_else(run):
    code, out, err = run("--epilog")
    assert (code, err) == (0, "")
    assert out.startswith("#!/bin/bash\n")
