"""A helper that asks again and again, and that can be given up."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from mountkit.linux import fuse_connection
from mountkit.linux.process import ProcessIdentity
from mountkit.supervision import probe_child
from mountkit.supervision.health import HealthLimits
from mountkit.supervision.prober import ENDED_HELPERS, Guarded, Prober
from support.fakes import open_descriptors

LIMIT = 20.0


def until(condition) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def answered(prober: Prober) -> bool:
    prober.ask()
    return prober.answered is not None


@pytest.fixture
def prober(tmp_path):
    (tmp_path / "mnt").mkdir()
    found = Prober(str(tmp_path / "mnt"))
    yield found
    found.close()


def test_a_directory_that_answers(prober):
    until(lambda: answered(prober))
    assert prober.error == 0
    assert prober.answered.serving


def test_an_answer_is_known_by_its_question_and_by_the_time_it_took_itself(prober, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    prober.ask()
    # Looked for an hour later: that is not the mount's fault.
    monkeypatch.setattr(time, "monotonic", lambda: 4600.0)
    deadline = time.perf_counter() + LIMIT
    while prober.unanswered:
        assert time.perf_counter() < deadline
    assert prober.answered.at == 1000.0
    assert 0 < prober.answered.seconds < LIMIT


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1200, reason="1,200 files cannot be open here"
)
def test_in_a_process_that_has_very_many_files_open(prober):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        until(lambda: answered(prober))
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert prober.answered.serving


def test_the_errno_comes_through_and_a_later_answer_replaces_it(prober, tmp_path):
    (tmp_path / "mnt").rmdir()
    until(lambda: answered(prober))
    assert prober.error == errno.ENOENT
    assert not prober.answered.serving
    (tmp_path / "mnt").mkdir()

    def well() -> bool:
        prober.ask()
        return prober.error == 0

    until(well)
    assert prober.answered.serving


def test_asking_twice_waits_for_the_first_answer(prober):
    prober.ask()
    assert prober.unanswered >= 0
    first = prober._asked
    prober.ask()
    assert prober._asked in {first, None} or prober._asked > first


@pytest.mark.fault(8)
def test_silence_is_counted_and_ends_with_a_new_helper(prober):
    prober.ask()
    os.kill(prober._helper.pid, 19)
    time.sleep(0.01)
    # Whatever was answered before it was stopped is taken in first.
    prober.ask()
    prober.ask()
    until(lambda: prober.unanswered > 0.05)
    prober.renew()
    assert prober.unanswered == 0.0
    until(lambda: answered(prober))


def test_the_answer_of_another_mount_is_forgotten(prober):
    until(lambda: answered(prober))
    prober.renew()
    assert prober.answered is None


def test_a_helper_that_died_is_replaced(prober):
    until(lambda: answered(prober))
    helper = prober._helper
    helper.kill()
    helper.wait()
    prober.answered = None
    until(lambda: answered(prober))
    assert prober._helper is not helper


@pytest.mark.fault(8)
def test_helpers_that_end_each_time_are_told_of(prober):
    prober.ask()
    for _ in range(ENDED_HELPERS):
        assert prober.problem == ""
        prober._helper.kill()
        prober._helper.wait()
        prober.ask()
    assert prober.problem.endswith("killed by SIGKILL")
    until(lambda: answered(prober))
    assert prober.problem == ""


def test_one_that_we_end_ourselves_is_no_problem(prober):
    for _ in range(ENDED_HELPERS + 1):
        prober.ask()
        prober.renew()
    assert prober.problem == ""


def test_nothing_of_it_is_left(tmp_path):
    before = open_descriptors()
    prober = Prober(str(tmp_path))
    prober.ask()
    helper = prober._helper
    prober.close()
    assert helper.poll() is not None
    assert open_descriptors() == before


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["/bin/sleep", "600"])
    yield ProcessIdentity.of(process.pid)
    process.kill()
    process.wait()


class TestLastResort:
    def test_each_daemon_gets_a_helper_of_its_own(self, prober, sleeper):
        first = Guarded(sleeper, 7, HealthLimits())
        until(lambda: answered(prober))
        plain = prober._helper
        prober.ask(first)
        guarding = prober._helper
        assert guarding is not plain
        assert guarding.args[-5:] == [str(sleeper.pid), str(sleeper.started), "7", "5.0", "60.0"]
        prober.ask(first)
        assert prober._helper is guarding
        prober.ask(replace(first, device=8))
        assert prober._helper is not guarding

    @pytest.mark.fault(37)
    def test_nobody_is_ended_by_the_helper_of_a_supervisor_that_is_gone(self, sleeper, tmp_path):
        # A fork of it holds the helper's stdin open.
        script = "import os, sys, time; from mountkit.supervision.prober import *;"
        script += "from mountkit.supervision.health import *;"
        script += (
            "from mountkit.linux.process import ProcessIdentity; prober = Prober(sys.argv[1]);"
        )
        script += "daemon = ProcessIdentity.of(int(sys.argv[2]));"
        script += "prober.ask(Guarded(daemon, 7, HealthLimits())); child = os.fork();"
        script += "child or time.sleep(600);"
        script += "print(prober._helper.pid, child, flush=True); time.sleep(600)"
        words = [sys.executable, "-c", script, str(tmp_path), str(sleeper.pid)]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as parent:
            helper, child = map(int, parent.stdout.readline().split())
            ending = psutil.Process(helper)
            try:
                parent.kill()
                parent.wait()
                assert ending.wait(LIMIT) is None
            finally:
                os.kill(child, signal.SIGKILL)
        assert sleeper.alive()

    def test_what_it_did_is_known(self, prober):
        prober._helper = subprocess.Popen(
            ["/bin/sh", "-c", f"echo {probe_child.ABORTED} 1.5; read nothing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        until(lambda: prober.aborted_by_helper)
        assert prober.aborted_by_helper > 1.5
        prober.renew()
        assert prober.aborted_by_helper == 0.0

    def test_a_supervisor_that_only_says_that_it_is_there_gets_no_answer(self, prober):
        until(lambda: answered(prober))
        first = prober.answered
        for _ in range(10):
            prober.attend()
        until(lambda: not prober.unanswered)
        prober.answered = None
        until(lambda: answered(prober))
        assert prober.answered.at > first.at


class TestFusectl:
    def test_the_requests_that_wait(self, tmp_path):
        (tmp_path / "57").mkdir()
        (tmp_path / "57" / "waiting").write_text("3\n")
        assert fuse_connection.waiting(57, tmp_path) == 3

    def test_where_the_kernel_does_not_say(self, tmp_path):
        assert fuse_connection.waiting(57, tmp_path) is None
        assert fuse_connection.abort(57, tmp_path) is False

    def test_cutting_it_off(self, tmp_path):
        (tmp_path / "57").mkdir()
        (tmp_path / "57" / "abort").touch()
        assert fuse_connection.abort(57, tmp_path) is True
        assert (tmp_path / "57" / "abort").read_text() == "1"
