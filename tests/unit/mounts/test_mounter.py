"""Start a daemon and wait until it serves, with a script for a daemon and no FUSE.

What is mounted already on every machine stands in for the mount: the table says that /proc is
mounted, and the fake backend says whether it is ours.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import time
from typing import TYPE_CHECKING

import pytest

from mountkit.backends.base import Binary, LogGap
from mountkit.errors import MountUnavailableError
from mountkit.linux import mount_io, mount_table
from mountkit.linux.daemon import Daemon
from mountkit.linux.mount_table import MountEntry
from mountkit.linux.process import ProcessIdentity
from mountkit.mounts.mounter import Mounter
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state.mount_directory import StateDirectory
from mountkit.state.record import SERVING, MountRecord, now
from support.fakes import FakeBackend, open_descriptors
from support.rig import eventually

if TYPE_CHECKING:
    from pathlib import Path

STAYS = "echo up; exec sleep 600"
ON_EVERY_MACHINE = "/proc"


def nobody() -> None:
    """Nobody writes down what there is."""


class Machine:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("state", "cache", "mnt"):
            (folder / name).mkdir()
        self.asked = folder / "asked"
        self.mounters: list[Mounter] = []

    def mounter(self, script: str = STAYS, target: str | None = None, **more) -> Mounter:
        spec = MountSpec(
            Source("s3", "bucket", "run"),
            target or str(self.folder / "mnt"),
            "fake",
            StoreOptions(),
            str(self.folder / "cache"),
        )
        made = Mounter(
            spec,
            FakeBackend(self.folder, script),
            more.get("binary", Binary("/bin/sh", (1,))),
            StateDirectory(self.folder / "state"),
            self.fusermount(more.get("answer", "exit 0")),
            {"PATH": os.defpath},
        )
        self.mounters.append(made)
        return made

    def fusermount(self, answer: str) -> str:
        path = self.folder / "fusermount3"
        path.write_text(f'#!/bin/sh\necho "$@" >> {self.asked}\n{answer}\n')
        path.chmod(0o755)
        return str(path)


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    for mounter in made.mounters:
        mounter.release()
        if mounter.daemon:
            mounter.daemon.stop(grace=0.1)


class TestStart:
    def test_it_serves_once_it_is_in_the_table_and_answers(self, machine):
        mounter = machine.mounter(target=ON_EVERY_MACHINE)
        mounter.start(30.0, nobody)
        assert mounter.mounted()
        assert mounter.daemon.poll() is None

    @pytest.mark.fault(37)
    def test_it_says_what_there_is_as_soon_as_it_is_there(self, machine):
        mounter = machine.mounter(target=ON_EVERY_MACHINE)
        seen = []
        mounter.start(30.0, lambda: seen.append((mounter.daemon.identity.pid, mounter.device)))
        assert [pid for pid, _ in seen] == [mounter.daemon.identity.pid] * 2
        assert seen[0][1] is None
        assert seen[1][1] == mounter.device is not None

    def test_what_it_is_told_is_on_no_disk_and_an_old_socket_is_gone(self, machine):
        (machine.folder / "state" / "rc.sock").touch()
        mounter = machine.mounter("cat /dev/fd/0; cat; exec sleep 60 <&-", target=ON_EVERY_MACHINE)
        mounter.start(30.0, nobody)
        eventually(lambda: mounter.daemon.tail() == "texttext", "told")
        log = mounter.directory.log
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        private = [path for path in log.parent.rglob("*") if path.is_file() and path != log]
        assert [path for path in private if b"text" in path.read_bytes()] == []
        assert not (machine.folder / "state" / "rc.sock").exists()

    def test_the_program_is_looked_for_where_none_was_given(self, machine):
        mounter = machine.mounter(target=ON_EVERY_MACHINE, binary=None)
        mounter.start(30.0, nobody)
        assert mounter.backend.found_on == [os.defpath]

    def test_a_daemon_that_ends_is_quoted(self, machine):
        script = "for n in 1 2 3 4; do echo line $n; done; exit 7"
        mounter = machine.mounter(script)
        with pytest.raises(MountUnavailableError) as caught:
            mounter.start(30.0, nobody)
        assert "ended: exit status 7" in caught.value.message
        assert "line 2 / line 3 / line 4" in caught.value.message
        assert "line 1" not in caught.value.message
        assert f"less {mounter.directory.log}" in caught.value.hint

    def test_one_that_does_not_mount_in_time_is_ended(self, machine):
        mounter = machine.mounter()
        with pytest.raises(MountUnavailableError, match="did not mount within 0 s"):
            mounter.start(0.05, nobody)
        assert mounter.daemon.poll() is not None

    @pytest.mark.fault(4, 40)
    def test_none_is_started_for_a_mount_that_is_taken_away(self, machine):
        mounter = machine.mounter(target=ON_EVERY_MACHINE)
        mounter.starts.shut()
        with pytest.raises(MountUnavailableError, match="being taken away"):
            mounter.start(30.0, nobody)
        assert mounter.daemon is None

    @pytest.mark.fault(4, 40)
    @pytest.mark.parametrize("target", [None, ON_EVERY_MACHINE], ids=["not mounted", "mounted"])
    def test_one_that_comes_up_meanwhile_is_ended(self, machine, target):
        mounter = machine.mounter(target=target)
        with pytest.raises(MountUnavailableError, match="being taken away"):
            mounter.start(30.0, mounter.starts.shut)
        assert mounter.daemon.poll() is not None

    def test_the_reason_is_told_even_if_it_cannot_be_taken_away(self, machine):
        mounter = machine.mounter(target=ON_EVERY_MACHINE, answer="exit 1")

        def refuse():
            raise MountUnavailableError("It keeps its files elsewhere.")

        mounter.backend.daemon.self_check = refuse
        with pytest.raises(MountUnavailableError, match="keeps its files elsewhere"):
            mounter.start(30.0, nobody)

    @pytest.mark.fault(13)
    def test_one_whose_cache_is_elsewhere_is_ended(self, machine):
        mounter = machine.mounter(target=ON_EVERY_MACHINE)

        def refuse():
            mounter.backend.ours = False  # as if the unmount had worked
            raise MountUnavailableError("It keeps its files elsewhere.")

        mounter.backend.daemon.self_check = refuse
        with pytest.raises(MountUnavailableError, match="keeps its files elsewhere"):
            mounter.start(30.0, nobody)
        assert mounter.daemon.poll() is not None

    @pytest.mark.fault(12)
    def test_what_the_audit_moves_away_is_a_stray(self, machine):
        mounter = machine.mounter(target=ON_EVERY_MACHINE)
        mounter.backend.daemon.repair_cache = lambda quarantine: ("checkpoint-3/torn",)
        mounter.start(30.0, nobody)
        assert mounter.directory.bypassed.paths() == ("checkpoint-3/torn",)

    @pytest.mark.fault(7)
    def test_what_is_left_of_a_checkpoint_is_noted_before_the_daemon_can_hide_it(self, machine):
        mounter = machine.mounter(target=ON_EVERY_MACHINE)
        mounter.backend.daemon.less = ("checkpoint-3",)
        mounter.backend.daemon.repair_cache = lambda quarantine: ()
        mounter.start(30.0, nobody)
        assert set(mounter.directory.bypassed.partially_deleted()) == {"checkpoint-3"}


class TestClearTarget:
    def test_an_empty_directory_is_ready(self, machine):
        machine.mounter().clear_target(None)
        machine.mounter(target=str(machine.folder / "new" / "one")).clear_target(None)
        assert (machine.folder / "new" / "one").is_dir()

    @pytest.mark.fault(9)
    def test_what_somebody_else_mounted_is_refused_and_not_unmounted(self, machine):
        mounter = machine.mounter(target=ON_EVERY_MACHINE)
        mounter.backend.ours = False
        with pytest.raises(MountUnavailableError, match="not by mountkit"):
            mounter.clear_target(None)
        assert not machine.asked.exists()

    @pytest.mark.fault(9)
    def test_a_mount_of_ours_that_cannot_be_taken_away_is_told(self, machine):
        mounter = machine.mounter(target=ON_EVERY_MACHINE, answer="echo busy >&2; exit 1")
        with pytest.raises(MountUnavailableError, match="cannot be unmounted: busy") as caught:
            mounter.clear_target(None)
        assert f"fusermount3 -u -z {ON_EVERY_MACHINE}" in caught.value.hint
        assert machine.asked.read_text() == f"-u -z {ON_EVERY_MACHINE}\n"

    def test_a_daemon_that_was_left_over_is_stopped(self, machine):
        leftover = Daemon.start(["/bin/sleep", "600"], {}, machine.folder / "log")
        try:
            machine.mounter().clear_target(leftover.identity)
            assert leftover.wait(30) is not None
        finally:
            leftover.stop()

    @pytest.mark.fault(37)
    def test_a_daemon_that_outlived_its_unmount_is_stopped(self, machine):
        outlived = Daemon.start(["/bin/sleep", "600"], {}, machine.folder / "log")
        try:
            mounter = machine.mounter()
            me = ProcessIdentity.mine()
            record = MountRecord(mounter.spec, SERVING, now(), me, daemon=outlived.identity)
            mounter.directory.write(record)
            mounter.directory.clear(unproven=True)
            mounter.clear_target(None)
            assert outlived.wait(30) is not None
        finally:
            outlived.stop()

    def test_one_that_does_not_end_lets_no_other_start(self, machine, monkeypatch):
        monkeypatch.setattr(ProcessIdentity, "stop", lambda _: False)
        with pytest.raises(MountUnavailableError, match=f"process {os.getpid()}, does not end"):
            machine.mounter().clear_target(ProcessIdentity.mine())

    def test_a_remount_does_not_ask_the_record_which_tells_of_its_own_daemon(self, machine):
        mounter = machine.mounter("exit 0")
        with pytest.raises(MountUnavailableError):
            mounter.start(30.0, nobody)
        (machine.folder / "state" / "record.json").write_text("no record")
        mounter.clear_target(None)

    @pytest.mark.fault(8)
    def test_a_target_in_another_mount_that_hangs_is_not_touched(self, machine, monkeypatch):
        outer = MountEntry(str(machine.folder), "fuse.rclone", "mountkit-1", 52)
        monkeypatch.setattr(mount_table, "read", lambda: (outer,))
        monkeypatch.setattr(mount_io, "ask", lambda *_: mount_io.Answer(errno.ETIMEDOUT, 5.0))
        target = machine.folder / "new"
        with pytest.raises(MountUnavailableError, match=f"in the mount at {machine.folder}"):
            machine.mounter(target=str(target)).clear_target(None)
        assert not target.exists()

    @pytest.mark.fault(9)
    def test_files_in_the_way_stay(self, machine):
        (machine.folder / "mnt" / "mine").write_text("x")
        with pytest.raises(MountUnavailableError, match="not empty"):
            machine.mounter().clear_target(None)
        assert (machine.folder / "mnt" / "mine").read_text() == "x"

    def test_letting_go_leaves_no_descriptor(self, machine):
        mounter = machine.mounter()
        before = open_descriptors()
        mounter.clear_target(None)
        mounter.clear_target(None)
        mounter.release()
        mounter.release()
        assert open_descriptors() == before


class TestStrays:
    def test_there_are_none_before_the_target_was_cleared(self, machine):
        (machine.folder / "mnt" / "x").write_text("x")
        mounter = machine.mounter()
        mounter.quarantine_bypassed()
        assert mounter.directory.bypassed.paths() == ()
        assert (machine.folder / "mnt" / "x").exists()

    def test_what_reached_the_bare_directory_is_moved_away_and_named(self, machine):
        mounter = machine.mounter()
        mounter.clear_target(None)
        deep = machine.folder / "mnt" / "checkpoint-3" / "sub"
        deep.mkdir(parents=True)
        (deep / "ü 1").write_text("x")
        (machine.folder / "mnt" / "log").write_text("y")
        mounter.quarantine_bypassed()
        assert mounter.directory.bypassed.paths() == ("checkpoint-3/sub/ü 1", "log")
        (away,) = (machine.folder / "cache" / "strays").iterdir()
        assert (away / "checkpoint-3" / "sub" / "ü 1").read_text() == "x"
        assert (away / "log").read_text() == "y"
        assert stat.S_IMODE(away.stat().st_mode) == 0o700
        mounter.clear_target(None)

    def test_they_are_named_though_a_move_fails(self, machine):
        mounter = machine.mounter()
        mounter.clear_target(None)
        (machine.folder / "mnt" / "a").write_text("x")
        (machine.folder / "cache").mkdir(exist_ok=True)
        (machine.folder / "cache" / "strays").write_text("a file is in the way")
        with pytest.raises(OSError, match="strays"):
            mounter.quarantine_bypassed()
        assert mounter.directory.bypassed.paths() == ("a",)

    def test_they_can_be_named_and_left_where_they_are(self, machine):
        mounter = machine.mounter()
        mounter.record_bypassed()
        mounter.clear_target(None)
        (machine.folder / "mnt" / "a").write_text("x")
        mounter.record_bypassed()
        assert mounter.directory.bypassed.paths() == ("a",)
        assert (machine.folder / "mnt" / "a").exists()

    def test_one_that_is_named_and_moved_is_one_and_a_copy_of_it_another(self, machine):
        mounter = machine.mounter()
        mounter.clear_target(None)
        file = machine.folder / "mnt" / "a"
        for count in (1, 2):
            file.write_text("x")
            os.utime(file, (1, 1))
            mounter.record_bypassed()
            mounter.quarantine_bypassed()
            found = mounter.directory.bypassed.found()
            assert len(found) == count
            assert found[-1].size == 1
            assert abs(found[-1].at - time.time()) < 60

    def test_a_directory_without_files_is_no_hindrance(self, machine):
        mounter = machine.mounter()
        mounter.clear_target(None)
        (machine.folder / "mnt" / "checkpoint-3").mkdir()
        mounter.quarantine_bypassed()
        assert mounter.directory.bypassed.paths() == ()
        mounter.clear_target(None)

    def test_a_second_time_does_not_overwrite_the_first(self, machine):
        mounter = machine.mounter()
        mounter.clear_target(None)
        for text in ("first", "second"):
            (machine.folder / "mnt" / "x").write_text(text)
            mounter.quarantine_bypassed()
        kept = sorted(path.read_text() for path in (machine.folder / "cache").rglob("x"))
        assert kept == ["first", "second"]

    def test_nothing_there_is_nothing_moved(self, machine):
        mounter = machine.mounter()
        mounter.clear_target(None)
        mounter.quarantine_bypassed()
        assert mounter.directory.bypassed.paths() == ()
        assert not (machine.folder / "cache" / "strays").exists()


@pytest.mark.fault(9)
class TestCovered:
    """Somebody else's mount is on top of ours: a daemon that is asked to end takes that away."""

    @pytest.fixture
    def mounter(self, machine):
        told = machine.folder / "was asked to end"
        script = f"trap 'touch \"{told}\"; exit 0' TERM; echo up; while :; do sleep 0.01; done"
        mounter = machine.mounter(script, target=ON_EVERY_MACHINE)
        mounter.start(30.0, nobody)
        deadline = time.monotonic() + 30.0
        while "up" not in mounter.daemon.tail():
            assert time.monotonic() < deadline
        mounter.backend.ours = False
        yield mounter
        assert not told.exists()
        assert not machine.asked.exists()

    def test_a_repair_kills_it(self, mounter):
        mounter.kill()
        assert mounter.daemon.poll() == -signal.SIGKILL

    def test_the_end_kills_it_and_says_what_stays(self, mounter, caplog):
        mounter.unmount()
        assert mounter.daemon.poll() == -signal.SIGKILL
        assert "something else is mounted over /proc" in caplog.text

    def test_the_end_of_one_that_another_process_started(self, mounter, machine):
        another = machine.mounter(target=ON_EVERY_MACHINE)
        another.backend.ours = False
        another.unmount(mounter.daemon.identity)
        # By SIGKILL, see the fixture; whoever waits for a child first is the one who hears so.
        assert not mounter.daemon.identity.alive()

    def test_a_leftover_is_refused_and_not_touched(self, mounter, machine):
        another = machine.mounter(target=ON_EVERY_MACHINE)
        another.backend.ours = False
        with pytest.raises(MountUnavailableError, match="not by mountkit"):
            another.clear_target(mounter.daemon.identity)
        assert mounter.daemon.poll() is None
        mounter.daemon.kill()


class TestUnmount:
    def test_what_is_not_mounted_is_done_and_the_daemon_is_waited_for(self, machine):
        mounter = machine.mounter("exit 0")
        with pytest.raises(MountUnavailableError):
            mounter.start(30.0, nobody)
        mounter.unmount()
        assert not machine.asked.exists()

    def test_a_daemon_that_another_process_started_is_waited_for(self, machine):
        other = Daemon.start(["/bin/true"], {}, machine.folder / "log")
        identity = other.identity
        other.wait(30)
        machine.mounter().unmount(identity)
        assert not identity.alive()


@pytest.mark.fault(15)
def test_a_log_that_lacks_lines_of_which_nobody_has_told_outlasts_the_mount(tmp_path):
    mounter = Machine(tmp_path).mounter()
    me = ProcessIdentity.mine()
    record = MountRecord(mounter.spec, SERVING, now(), me, began=20.0, named=10.0)
    assert not mounter.leaves(record)
    mounter.backend.daemon.gaps = (LogGap(5.0, 8.0),)
    assert not mounter.leaves(record)
    mounter.backend.daemon.gaps = (LogGap(5.0, 30.0),)
    assert mounter.leaves(record)
