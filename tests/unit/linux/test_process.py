"""Daemons: started with the environment given, known by more than a PID, stopped for good."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.errors import MountUnavailableError
from mountkit.linux import process
from mountkit.linux.daemon import Daemon, InheritedDaemon
from mountkit.linux.process import ProcessIdentity, describe_exit
from support.fakes import open_descriptors

SLEEP = ("/bin/sleep", "60")
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 60 & wait; done"


@pytest.fixture
def start(tmp_path):
    daemons = []

    def launch(*argv, env=None) -> Daemon:
        daemons.append(Daemon.start(argv or SLEEP, env or {}, tmp_path / "daemon.log"))
        return daemons[-1]

    yield launch
    for daemon in daemons:
        try:
            # Each is a session of its own, so its children go with it.
            os.killpg(daemon.identity.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        daemon.wait(10)


def until_it_says(daemon: Daemon, word: str) -> None:
    """The log has no event to wait for; a daemon that ends without the word is a failure."""
    while word not in daemon.tail():
        assert daemon.wait(0.01) is None


class TestIdentity:
    def test_this_process_is_alive(self):
        me = ProcessIdentity.mine()
        assert me.pid == os.getpid()
        assert me == ProcessIdentity.of(os.getpid())
        assert me.alive()

    def test_a_pid_of_nobody(self):
        child = subprocess.Popen(["/bin/true"])
        child.wait()
        assert ProcessIdentity.of(child.pid) is None

    @pytest.mark.fault(38)
    @pytest.mark.parametrize("change", [{"started": 1.0}, {"executable": "/usr/bin/other"}])
    def test_a_stranger_with_our_pid_is_neither_alive_nor_signalled(self, start, change):
        daemon = start()
        stranger = replace(daemon.identity, **change)
        assert not stranger.alive()
        assert not stranger.send(signal.SIGKILL)
        assert stranger.wait(0)
        assert stranger.stop()
        assert daemon.poll() is None

    @pytest.mark.fault(38)
    def test_the_same_pid_and_start_after_a_restart_of_the_machine_is_a_stranger(self, start):
        daemon = start()
        before = replace(daemon.identity, boot="6f1d2c3e-another-boot")
        assert not before.alive()
        assert not before.send(signal.SIGKILL)
        assert before.wait(0)
        assert before.stop()
        InheritedDaemon(before, daemon.log).kill(0.1)
        assert InheritedDaemon(before, daemon.log).ended()
        assert daemon.poll() is None

    @pytest.mark.fault(38)
    def test_one_of_an_earlier_version_is_known_by_the_rest(self, start):
        daemon = start()
        assert daemon.identity.boot
        earlier = replace(daemon.identity, boot="")
        assert earlier.alive()
        assert not replace(earlier, started=1).alive()
        assert earlier.send(signal.SIGCONT)

    def test_a_zombie_is_dead(self, start):
        daemon = start()
        identity = daemon.identity
        assert identity.send(signal.SIGKILL)
        assert os.waitid(os.P_PID, identity.pid, os.WEXITED | os.WNOWAIT) is not None
        assert not identity.alive()
        assert ProcessIdentity.of(identity.pid) is None

    def test_stop_ends_it(self, start):
        daemon = start()
        assert daemon.identity.stop()
        assert not daemon.identity.alive()
        assert daemon.identity.stop(), "once more does no harm"

    def test_stop_kills_what_ignores_sigterm(self, start):
        daemon = start("/bin/sh", "-c", STUBBORN)
        until_it_says(daemon, "ready")
        assert daemon.identity.stop(grace=0.1)
        assert not daemon.identity.alive()

    def test_no_descriptor_is_left_open(self, start):
        daemon = start()
        before = open_descriptors()
        daemon.identity.send(signal.SIGCONT)
        replace(daemon.identity, started=1.0).send(signal.SIGCONT)
        assert open_descriptors() == before


class TestDaemon:
    def test_it_sees_the_given_environment_and_nothing_else(self, start, monkeypatch):
        monkeypatch.setenv("RCLONE_VFS_WRITE_BACK", "0")
        daemon = start(
            sys.executable, "-ISc", "import os; print(sorted(os.environ))", env={"A": "1"}
        )
        assert daemon.wait(10) == 0
        seen = daemon.tail()
        assert "'A'" in seen
        assert "RCLONE" not in seen
        assert "PATH" not in seen

    def test_it_is_a_session_of_its_own_at_the_root(self, start):
        daemon = start()
        assert os.getsid(daemon.identity.pid) == daemon.identity.pid
        assert Path(f"/proc/{daemon.identity.pid}/cwd").readlink() == Path("/")

    def test_its_output_is_private_and_kept(self, start):
        for word in ("one", "two"):
            assert start("/bin/sh", "-c", f"echo {word} >&2").wait(10) == 0
        daemon = start("/bin/sh", "-c", "exit 3")
        assert daemon.wait(10) == 3
        assert daemon.tail() == "one\ntwo"
        assert stat.S_IMODE(daemon.log.stat().st_mode) == 0o600

    def test_it_inherits_no_descriptor(self, start):
        reader, writer = os.pipe()
        os.set_inheritable(writer, True)
        try:
            script = "import time; print('ready', flush=True); time.sleep(600)"
            daemon = start(sys.executable, "-ISc", script)
            # By then it has loaded its libraries, and opens nothing more.
            until_it_says(daemon, "ready")
            held = {
                str(link.readlink()) for link in Path(f"/proc/{daemon.identity.pid}/fd").iterdir()
            }
        finally:
            os.close(reader)
            os.close(writer)
        assert held == {"/dev/null", str(daemon.log)}

    def test_stop_reaps_it(self, start):
        daemon = start()
        daemon.stop()
        assert daemon.poll() == -signal.SIGTERM
        daemon.stop()

    def test_stop_kills_what_ignores_sigterm(self, start):
        daemon = start("/bin/sh", "-c", STUBBORN)
        until_it_says(daemon, "ready")
        daemon.stop(grace=0.1)
        assert daemon.poll() == -signal.SIGKILL

    @pytest.mark.fault(37)
    def test_one_that_another_process_started_is_killed_too(self, start):
        daemon = start("/bin/sh", "-c", STUBBORN)
        until_it_says(daemon, "ready")
        adopted = InheritedDaemon(daemon.identity, daemon.log)
        assert adopted.poll() is None
        adopted.stop(grace=0.1)
        assert adopted.poll() == 0
        adopted.stop(grace=0.1)

    def test_waiting_has_an_end(self, start):
        assert start().wait(0.01) is None

    @pytest.mark.parametrize("mode", [None, 0o600])
    def test_a_program_that_cannot_start(self, tmp_path, mode):
        program = tmp_path / "program"
        if mode is not None:
            program.write_text("#!/bin/sh\n")
            program.chmod(mode)
        before = open_descriptors()
        with pytest.raises(MountUnavailableError) as caught:
            Daemon.start([str(program)], {}, tmp_path / "log")
        assert str(program) in caught.value.message
        assert f"ls -l {program}" in caught.value.hint
        assert open_descriptors() == before


class TestTail:
    def test_no_log_is_no_text(self, tmp_path):
        assert process.tail(tmp_path / "none") == ""

    @given(st.binary(max_size=400), st.integers(1, 100))
    def test_the_end_of_it(self, tmp_path_factory, data, limit):
        log = tmp_path_factory.getbasetemp() / "tail.log"
        log.write_bytes(data)
        assert process.tail(log, limit) == data[-limit:].decode(errors="replace").strip()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit status 0"),
        (1, "exit status 1"),
        (-9, "killed by SIGKILL"),
        (-15, "killed by SIGTERM"),
        (-250, "killed by signal 250"),
    ],
)
def test_an_exit_in_words(status, words):
    assert describe_exit(status) == words
