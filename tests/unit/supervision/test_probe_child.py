"""The last resort: when it is time, whether a daemon hangs, and that nobody else is ever ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.linux import mount_table
from mountkit.linux.process import ProcessIdentity
from mountkit.supervision import health, probe_child
from mountkit.supervision.health import Health, HealthLimits, Observation, judge
from mountkit.supervision.probe_child import FROZEN_SECONDS, TURN_SECONDS, Clock, hangs

LIMIT = 20.0
PROBE = 5.0
LATE = PROBE + TURN_SECONDS


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["/bin/sleep", "600"])
    yield ProcessIdentity.of(process.pid)
    process.kill()
    process.wait()


def ticked(clock: Clock, begin: float, end: float) -> None:
    """Let it run from one time to the other, as a machine does that is not stopped."""
    while begin < end:
        clock.tick(begin)
        begin += 1.0
    clock.tick(end)


class TestClock:
    def test_a_supervisor_that_takes_its_turns_is_never_forestalled(self):
        clock = Clock(0.0, PROBE)
        for second in range(1000):
            clock.tick(float(second))
            clock.heard(float(second))
            assert not clock.overdue(float(second), 0.0)

    def test_one_that_does_not_is_waited_for(self):
        clock = Clock(0.0, PROBE)
        ticked(clock, 0.0, LATE - 0.1)
        assert not clock.overdue(LATE - 0.1, 0.0)
        assert clock.overdue(LATE, 0.0)

    def test_a_mount_that_answers_is_never_overdue(self):
        clock = Clock(0.0, PROBE)
        ticked(clock, 0.0, 1000.0)
        assert not clock.overdue(1000.0, None)
        assert not clock.overdue(1000.0, 1000.0 - PROBE + 0.1)

    @given(st.floats(FROZEN_SECONDS + 0.1, 1e6))
    def test_while_nobody_ran_nobody_was_silent(self, gap):
        clock = Clock(0.0, PROBE)
        ticked(clock, 0.0, LATE + 1.0)
        assert clock.idle(LATE + 1.0, 7) == 0.0
        later = LATE + 1.0 + gap
        clock.tick(later)
        assert not clock.overdue(later, 0.0)
        assert clock.unanswered(later, 0.0) == clock.idle(later, 7) == 0.0
        # And what is silent all the same is found to be.
        ticked(clock, later, later + LATE)
        assert clock.overdue(later + LATE, 0.0)

    def test_a_daemon_that_works_is_not_idle(self):
        clock = Clock(0.0, PROBE)
        assert clock.idle(10.0, 7) == 0.0
        assert clock.idle(15.0, 7) == 5.0
        assert clock.idle(20.0, 8) == 0.0


@given(st.floats(PROBE, 1e4), st.floats(0, 1e4), st.sampled_from("RSDTtXZ"), st.floats(PROBE, 1e3))
def test_it_judges_as_the_supervisor_does(unanswered, idle, process_state, hang):
    sight = Observation("", "it", True, 0, unanswered, process_state, idle)
    broken = judge(sight, HealthLimits(1.0, PROBE, hang)).health is Health.BROKEN
    assert hangs(process_state, unanswered, idle, hang) is broken
    assert set(probe_child.STOPPED) == health.STOPPED


class TestDaemon:
    def test_it_is_told_and_killed(self, sleeper, capfd):
        psutil.Process(sleeper.pid).suspend()
        probe_child.Daemon(sleeper.pid, sleeper.started, -1).end(12.5)
        assert psutil.Process(sleeper.pid).wait(LIMIT) == -signal.SIGKILL
        assert capfd.readouterr().out == "cut-off 12.5\n"

    @pytest.mark.fault(38)
    def test_a_stranger_with_its_number_is_left_alone(self, sleeper, capfd):
        stranger = probe_child.Daemon(sleeper.pid, sleeper.started + 1, -1)
        stranger.end(12.5)
        assert stranger.look() is None
        assert sleeper.alive()
        assert capfd.readouterr().out == ""

    def test_one_that_is_gone(self, sleeper, capfd):
        os.kill(sleeper.pid, signal.SIGKILL)
        os.waitpid(sleeper.pid, 0)
        probe_child.Daemon(sleeper.pid, sleeper.started, -1).end(12.5)
        assert capfd.readouterr().out == ""

    @pytest.mark.fault(9)
    def test_a_mount_on_top_of_its_own_is_not_its_own(self):
        entry = mount_table.at("/proc")
        assert probe_child.Daemon(1, 1, entry.minor).serves("/proc")
        assert not probe_child.Daemon(1, 1, entry.minor + 1).serves("/proc")
        assert not probe_child.Daemon(1, 1, entry.minor).serves("/proc/1")

    def test_what_it_does(self, sleeper):
        deadline = time.monotonic() + LIMIT
        while probe_child.Daemon(sleeper.pid, sleeper.started, -1).look()[0] != "S":
            assert time.monotonic() < deadline


@pytest.mark.parametrize("path", ["/plain", "/a b", "/a\\b", "/tab\there", "/ünï#"])
def test_paths_of_the_mount_table(path):
    kept = "".join(f"\\{ord(sign):03o}" if sign in " \t\n\\#" else sign for sign in path)
    assert probe_child.unescaped(kept.encode()) == path.encode()


@pytest.mark.fault(8)
def test_one_whose_thread_fails_ends_and_does_not_let_the_mount_seem_to_hang(tmp_path):
    text = Path(probe_child.__file__).read_text()
    words = [sys.executable, "-I", "-S", "-c", text, str(tmp_path), str(os.getpid())]
    # Nobody can be answered: an error of another kind than a supervisor that is gone.
    helper = subprocess.Popen(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *words],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        helper.stdin.write(probe_child.ASK)
        helper.stdin.flush()
        assert helper.wait(LIMIT) == 1
    finally:
        helper.kill()
        helper.wait()
        helper.stdin.close()
