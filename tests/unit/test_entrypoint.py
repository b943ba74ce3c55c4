"""Run a command with the signals forwarded, and end with its exit code."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mountkit
from mountkit.entrypoint import FORWARDED, Signals, execute
from mountkit.errors import UsageError


@pytest.fixture
def said() -> list[str]:
    return []


class TestExitCode:
    @pytest.mark.parametrize("code", [0, 1, 3, 75, 255])
    def test_it_is_the_commands_own(self, said, code):
        assert execute(["/bin/sh", "-c", f"exit {code}"], said.append) == code

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
    def test_a_signal_is_added_to_128(self, said, number):
        script = f"ulimit -c 0; kill -{number.value} $$"
        assert execute(["/bin/sh", "-c", script], said.append) == 128 + number

    def test_arguments_come_through_as_they_are(self, said, capfd):
        execute(["/usr/bin/printf", "<%s>", "a b", "", "--", "ü"], said.append)
        assert capfd.readouterr().out == "<a b><><--><ü>"

    def test_the_command_has_our_environment(self, said, capfd, monkeypatch):
        monkeypatch.setenv("MOUNTKIT_SOURCE", "s3://bucket")
        execute(["/bin/sh", "-c", "echo $MOUNTKIT_SOURCE"], said.append)
        assert capfd.readouterr().out == "s3://bucket\n"

    @pytest.mark.parametrize("name", ["/no/such/program", "/etc"])
    def test_one_that_cannot_be_run(self, said, name):
        with pytest.raises(UsageError, match=name) as caught:
            execute([name], said.append)
        assert caught.value.hint


class TestSignals:
    def test_the_handlers_are_put_back(self, said):
        watched = (*FORWARDED, signal.SIGINT)
        before = [signal.getsignal(number) for number in watched]
        execute(["/bin/true"], said.append)
        with pytest.raises(UsageError):
            execute(["/no/such/program"], said.append)
        assert [signal.getsignal(number) for number in watched] == before

    @pytest.mark.parametrize("number", FORWARDED)
    def test_before_the_command_one_ends_everything(self, said, number):
        with pytest.raises(KeyboardInterrupt), Signals(said.append):
            os.kill(os.getpid(), number)

    @pytest.mark.fault(4)
    @pytest.mark.parametrize("number", [*FORWARDED, signal.SIGINT])
    def test_after_the_command_none_cuts_the_drain_short(self, said, number):
        with Signals(said.append) as signals:
            assert signals.execute(["/bin/true"]) == 0
            os.kill(os.getpid(), number)
        assert len(said) == 1
        assert number.name in said[0]


RUN = """
import sys
from mountkit.entrypoint import execute
sys.exit(execute(sys.argv[1:], print))
"""
TRAP = """
for name in TERM HUP USR1 USR2 INT; do trap "echo got $name; exit 5" $name; done
echo ready
while :; do sleep 60 & wait $!; done
"""


def line_of(child: subprocess.Popen[bytes]) -> bytes:
    """The next line it prints; none in 30 s is a failure and not a test that hangs."""
    assert select.select([child.stdout], [], [], 30)[0], "it said nothing"
    return child.stdout.readline()


@pytest.fixture
def running():
    started = []

    def start(script: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-c", RUN, "/bin/sh", "-c", script],
            env={"PYTHONPATH": str(Path(mountkit.__file__).parents[1]), "PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(child)
        assert line_of(child) == b"ready\n"
        return child

    yield start
    for child in started:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        child.wait(30)
        child.stdout.close()


@pytest.mark.parametrize("number", [*FORWARDED, signal.SIGINT])
def test_a_signal_goes_to_the_command_whose_answer_counts(running, number):
    child = running(TRAP)
    child.send_signal(number)
    assert line_of(child) == f"got {number.name[3:]}\n".encode()
    assert child.wait(30) == 5


def test_a_command_that_dies_of_the_signal(running):
    child = running("echo ready; exec sleep 60")
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 128 + signal.SIGTERM
