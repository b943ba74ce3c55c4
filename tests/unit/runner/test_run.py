"""Run a command with the signals forwarded, and end with its exit code."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import mountkit
from mountkit.cli import console
from mountkit.cli.mount import stay
from mountkit.config import settings
from mountkit.errors import MountUnavailableError, NotDurableError, Unproven, UsageError
from mountkit.proof.report import DrainReport
from mountkit.runner import run as entrypoint
from mountkit.runner.run import execute
from mountkit.runner.signals import FORWARDED
from mountkit.timing import Deadline
from support.fakes import FakeMount

if TYPE_CHECKING:
    from collections.abc import Callable


class TestExitCode:
    @pytest.mark.parametrize("code", [0, 1, 3, 75, 255])
    def test_it_is_the_commands_own(self, code):
        assert execute(["/bin/sh", "-c", f"exit {code}"]) == code

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
    def test_a_signal_is_added_to_128(self, number):
        script = f"ulimit -c 0; kill -{number.value} $$"
        assert execute(["/bin/sh", "-c", script]) == 128 + number

    def test_arguments_come_through_as_they_are(self, capfd):
        execute(["/usr/bin/printf", "<%s>", "a b", "", "--", "ü"])
        assert capfd.readouterr().out == "<a b><><--><ü>"

    def test_the_command_has_our_environment(self, capfd, monkeypatch):
        monkeypatch.setenv("MOUNTKIT_SOURCE", "s3://bucket")
        execute(["/bin/sh", "-c", "echo $MOUNTKIT_SOURCE"])
        assert capfd.readouterr().out == "s3://bucket\n"

    @pytest.mark.parametrize("name", ["/no/such/program", "/etc"])
    def test_one_that_cannot_be_run(self, name):
        with pytest.raises(UsageError, match=name) as caught:
            execute([name])
        assert caught.value.hint


class Ending:
    """A session whose drain and whose unmount each find something that is not proven."""

    def __init__(self, mount: FakeMount, say: Callable[[str], None], fails: bool) -> None:
        self.mount = mount
        self._say = say
        self._fails = fails
        finished = SimpleNamespace(wait=lambda _: True)
        record = SimpleNamespace(lost=(), state="serving")
        self.supervisor = SimpleNamespace(finished=finished, record=record, stopped=False)

    def finish(self, _, *, drained=lambda _: None, **__) -> DrainReport:
        first = DrainReport(0, (), (Unproven("log", 3, "it is away"),))
        drained(first)
        self._say("unmount")
        if self._fails:
            raise MountUnavailableError("It stays mounted.")
        late = Unproven("late", 4, "it was written after the drain had ended")
        return DrainReport(0, (), (*first.unproven, late))


class TestNaming:
    def run(self, mount, *, fails=False) -> tuple[int, list[str]]:
        said: list[str] = []
        ending = Ending(mount, said.append, fails)
        code = entrypoint.run(
            mount.spec,
            settings.load(),
            ["/bin/true"],
            said.append,
            said.append,
            said.append,
            lambda *_: ending,
        )
        after = said.index("the command ended; making sure that everything is in the store")
        return code, said[after + 1 :]

    def test_before_the_unmount_what_the_drain_found_and_once(self, tmp_path):
        code, said = self.run(FakeMount(tmp_path))
        assert code == 75
        assert said[:3] == [
            "not proven: log (3 bytes): it is away",
            "unmount",
            "not proven: late (4 bytes): it was written after the drain had ended",
        ]
        assert [line for line in said[3:] if line.startswith("not proven: ")] == []

    def test_also_where_the_unmount_fails(self, tmp_path):
        code, said = self.run(FakeMount(tmp_path), fails=True)
        assert code == 75
        assert said[:3] == ["not proven: log (3 bytes): it is away", "unmount", "It stays mounted."]

    def test_so_does_a_supervisor(self, tmp_path, capsys):
        ending, over = Ending(FakeMount(tmp_path), console.say, False), threading.Event()
        with pytest.raises(NotDurableError) as caught:
            stay(ending, lambda _: None, over.set, over, Deadline())
        said = capsys.readouterr().err.splitlines()
        assert [line.partition(" (")[0] for line in said[1:]] == [
            "mountkit: not proven: log",
            "mountkit: unmount",
            "mountkit: not proven: late",
        ]
        assert "log" not in caught.value.message
        assert len(caught.value.unproven) == 2


ASKS = "kill -{0} $PPID; exec sleep 60"


@pytest.mark.fault(5)
class TestToldToEnd:
    """The signal's code tells whoever sent it that all went as asked: only where all is proven."""

    def run(self, mount, script: str, unproven: tuple[Unproven, ...], **changes: object) -> int:
        report = DrainReport(0, (), unproven)
        ending = Ending(mount, lambda _: None, False)
        ending.finish = lambda *_, **__: report
        how = settings.load(**changes)
        command, quiet = ["/bin/sh", "-c", script], lambda _: None
        return entrypoint.run(mount.spec, how, command, quiet, quiet, quiet, lambda *_: ending)

    @pytest.mark.parametrize("number", [*FORWARDED, signal.SIGINT])
    def test_by_a_signal_that_was_passed_on(self, tmp_path, number):
        mount, script = FakeMount(tmp_path), ASKS.format(number.value)
        assert self.run(mount, script, (Unproven("log", 3, "it is away"),)) == 75
        assert self.run(mount, script, ()) == 128 + number

    def test_a_code_that_says_the_same(self, tmp_path):
        script = "trap 'exit 143' TERM; kill -TERM $PPID; while :; do sleep 0.05; done"
        assert self.run(FakeMount(tmp_path), script, (Unproven("log", 3, "it is away"),)) == 75

    def test_by_us_when_its_share_of_the_grace_is_over(self, tmp_path):
        mount, script = FakeMount(tmp_path), f"trap '' TERM; {ASKS.format('TERM')}"
        unproven = (Unproven("log", 3, "it is away"),)
        assert self.run(mount, script, unproven, grace=1.0) == 75
        assert self.run(mount, script, (), grace=1.0) == 128 + signal.SIGKILL

    @pytest.mark.parametrize(
        ("script", "code"),
        [
            ("kill -TERM $$", 143),
            ("kill -KILL $$", 137),
            ("trap 'exit 3' TERM; kill -TERM $PPID; while :; do sleep 0.05; done", 3),
            ("trap 'kill -KILL $$' HUP; kill -HUP $PPID; while :; do sleep 0.05; done", 137),
        ],
    )
    def test_what_the_command_says_itself_stays(self, tmp_path, script, code):
        unproven = (Unproven("log", 3, "it is away"),)
        assert self.run(FakeMount(tmp_path), script, unproven) == code


STOPS = "trap 'exit {code}' {signal}; kill -{signal} {whom}; while :; do sleep 0.05; done"


@pytest.mark.fault(5)
class TestStoppedCode:
    """A Trainer that saves on SIGTERM ends with 0: a Job would be complete in the middle of it."""

    LOST = (Unproven("log", 3, "it is away"),)

    def run(self, folder, script, unproven=(), **changes):
        run = TestToldToEnd().run
        return run(FakeMount(folder), script, unproven, stopped_code=143, **changes)

    @pytest.mark.parametrize("code", [0, 1, 130])
    @pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
    def test_whatever_the_command_made_of_a_signal(self, tmp_path, code, name):
        script = STOPS.format(code=code, signal=name, whom="$PPID")
        assert self.run(tmp_path, script) == 143

    @pytest.mark.parametrize("code", [2, 74, 75, 77, 78])
    def test_not_what_a_platform_acts_on(self, tmp_path, code):
        script = STOPS.format(code=code, signal="TERM", whom="$PPID")
        assert self.run(tmp_path, script) == code

    @pytest.mark.parametrize("code", [0, 1])
    def test_not_where_something_is_unproven(self, tmp_path, code):
        script = STOPS.format(code=code, signal="TERM", whom="$PPID")
        assert self.run(tmp_path, script, self.LOST) == 75

    def test_also_of_a_command_that_had_to_be_killed(self, tmp_path):
        script = f"trap '' TERM; {ASKS.format('TERM')}"
        assert self.run(tmp_path, script, grace=1.0) == 143

    @pytest.mark.parametrize("script", ["exit 0", "kill -USR1 $PPID; sleep 0.2; exit 0"])
    def test_a_command_that_nobody_stopped_has_its_own(self, tmp_path, script):
        script = f"trap '' USR1; {script}"
        assert self.run(tmp_path, script) == 0

    def test_a_signal_that_the_command_gave_itself_is_its_own(self, tmp_path):
        assert self.run(tmp_path, STOPS.format(code=0, signal="TERM", whom="$$")) == 0

    def test_without_it_the_command_has_its_own(self, tmp_path):
        script = STOPS.format(code=0, signal="TERM", whom="$PPID")
        assert TestToldToEnd().run(FakeMount(tmp_path), script, ()) == 0

    def test_without_a_mount(self):
        script = STOPS.format(code=0, signal="TERM", whom="$PPID")
        said: list[str] = []
        how = settings.load(stopped_code=143)
        assert execute(["/bin/sh", "-c", script], how, said.append) == 143
        assert "ended with 0" in said[0]


@pytest.mark.fault(7)
@pytest.mark.parametrize(("code", "lost", "told"), [(3, 1, True), (3, -60, False), (0, 1, False)])
def test_after_a_loss_it_says_how_a_run_that_failed_goes_on(tmp_path, code, lost, told):
    said: list[str] = []
    mount = FakeMount(tmp_path)
    ending = Ending(mount, said.append, False)
    ending.supervisor.record.lost = (time.time() + lost,)
    command = ["/bin/sh", "-c", f"exit {code}"]
    tell = said.append
    entrypoint.run(mount.spec, settings.load(), command, tell, tell, tell, lambda *_: ending)
    again = "run it again, from the newest proven checkpoint: mountkit latest s3://bucket/run"
    assert any(line.endswith(again) for line in said) is told


RUN = """
import sys
from mountkit.runner.run import execute
sys.exit(execute(sys.argv[1:]))
"""
TRAP = """
for name in TERM HUP USR1 USR2 INT; do trap "echo got $name; exit 5" $name; done
echo ready
while :; do sleep 60 & wait $!; done
"""


def line_of(child: subprocess.Popen[bytes]) -> bytes:
    """The next line it prints; none in 10 s is a failure and not a test that hangs."""
    assert select.select([child.stdout], [], [], 10)[0], "it said nothing"
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


def test_an_interrupt_that_was_caught_does_not_decide_how_python_ends(tmp_path):
    script = """
        import sys
        from mountkit.runner.run import forget_interrupt
        try:
            exec("raise KeyboardInterrupt")
        except KeyboardInterrupt:
            forget_interrupt()
        sys.exit(75)
    """
    (tmp_path / "interrupted.py").write_text(textwrap.dedent(script))
    paths = os.pathsep.join([str(tmp_path), str(Path(mountkit.__file__).parent.parent)])
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
        timeout=30,
    )
    assert done.returncode == 75


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
