"""The supervisor: what it decides, how long it pauses, and what it does with a mount that dies."""

from __future__ import annotations

import errno
import math
import os
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mountkit.errors import MountUnavailableError
from mountkit.events import MountFailed, MountLost, Problem, Remounted
from mountkit.linux.mount_table import MountEntry
from mountkit.state import record as state
from mountkit.supervision.health import HealthLimits
from mountkit.supervision.monitor import longest_silence
from mountkit.supervision.prober import Answered, Guarded
from support.fakes import open_descriptors
from support.watch import LIMIT, PATIENT, SilentProber, Watch, wait_until

if TYPE_CHECKING:
    from mountkit.state.record import MountRecord


class TestClock:
    """What a file's time is held against: see ``MountRecord.began``."""

    @pytest.mark.fault(35)
    def test_one_that_is_set_back_does_not_make_our_files_older_than_the_run(self, watch):
        now = [2000.0]
        watch.record = replace(watch.record, began=1000.0)
        watch.mounter.directory.write(watch.record)
        watch.begin(clock=lambda: now[0])
        now[0] = 400.0
        wait_until(lambda: watch.written().began <= 400.0)
        # And what was written since the last look before that is younger still.
        assert watch.written().began >= 390.0
        now[0] = 5000.0
        before = watch.written().began
        watch.supervisor.stop()
        assert watch.written().began == before

    def test_one_that_goes_right_changes_nothing(self, watch):
        watch.record = replace(watch.record, began=1000.0)
        watch.mounter.directory.write(watch.record)
        looked = threading.Semaphore(0)

        def clock() -> float:
            looked.release()
            return 1000.5

        watch.begin(clock=clock)
        for _ in range(3):
            assert looked.acquire(timeout=LIMIT)
        assert watch.written() == watch.record


class TestRepair:
    @pytest.mark.fault(6)
    def test_a_killed_daemon_is_started_again_over_the_same_cache(self, watch):
        supervisor = watch.begin()
        first = watch.mounter.daemon.identity
        first.send(signal.SIGKILL)
        lost = watch.told()
        assert lost == MountLost("fake ended: killed by SIGKILL")
        assert isinstance(watch.told(), Remounted)
        assert watch.mounter.calls == ["kill", "strays", "clear", "start", "name", "strays"]
        written = watch.written()
        assert written == supervisor.record
        assert (written.state, written.remounts) == (state.SERVING, 1)
        assert written.reason == lost.reason
        assert written.daemon == watch.mounter.daemon.identity != first
        assert supervisor.error is None
        assert not supervisor.finished.is_set()

    @pytest.mark.fault(37)
    def test_a_new_daemon_is_written_down_before_it_serves(self, watch):
        seen = []
        watch.mounter.self_check = lambda: seen.append(watch.written())
        watch.begin()
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        assert isinstance(watch.told(), MountLost)
        assert isinstance(watch.told(), Remounted)
        assert seen[-1].daemon == watch.mounter.daemon.identity
        assert seen[-1].device == 7
        assert seen[-1].state == state.REPAIRING

    def test_one_that_somebody_unmounted_comes_back(self, watch):
        watch.mounter.table = False
        watch.begin()
        assert watch.told() == MountLost("somebody unmounted it", "unmounted")
        assert isinstance(watch.told(), Remounted)

    @pytest.mark.fault(9)
    def test_one_that_somebody_mounted_over_waits_until_that_is_gone(self, watch):
        watch.mounter.stranger = MountEntry("/mnt", "tmpfs", "theirs", 99)
        prober = SilentProber()
        supervisor = watch.begin(prober=prober, attempts=1, limits=PATIENT)
        daemon = watch.mounter.daemon.identity
        watch.mounter.table = False
        told = watch.told()
        assert told == Problem("The mount at /mnt waits: theirs (tmpfs) is mounted over it")
        assert watch.written().state == state.REPAIRING
        assert not supervisor.answered().serving
        # Whatever the stranger's mount says.
        prober.silent, prober.error = True, errno.ENOTCONN
        wait_until(lambda: not prober.silent)
        watch.mounter.table = True
        wait_until(lambda: prober.guarded is not None)
        prober.answered = Answered(serving=True, seconds=0.0, at=time.monotonic())
        assert "serves again" in watch.told().reason, "or it was said twice"
        written = watch.written()
        assert (written.state, written.remounts, len(written.lost)) == (state.SERVING, 0, 3)
        assert written.covered == "theirs (tmpfs) is mounted over it"
        assert watch.mounter.daemon.identity == daemon
        assert daemon.alive()
        assert not {"kill", "start", "clear"} & set(watch.mounter.calls)

    def test_a_failed_attempt_is_followed_by_another(self, watch):
        watch.mounter.start_errors = [MountUnavailableError("The store is away.")]
        supervisor = watch.begin()
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        assert isinstance(watch.told(), MountLost)
        assert isinstance(watch.told(), Remounted)
        assert watch.mounter.calls.count("start") == 2
        assert watch.written().remounts == 1
        assert supervisor.error is None

    @pytest.mark.fault(8)
    def test_a_daemon_that_is_stopped_is_ended_without_being_asked(self, watch):
        prober = SilentProber()
        watch.begin(prober=prober)
        watch.mounter.daemon.identity.send(signal.SIGSTOP)
        prober.silent = True
        lost = watch.told()
        if isinstance(lost, Problem):
            # It was looked at before the signal had done its work.
            lost = watch.told()
        assert lost.cause == "hung"
        assert "daemon is stopped" in lost.reason
        assert watch.told().cause == "hung"
        assert watch.mounter.calls[0] == "kill hung"
        assert prober.renewed >= 1
        assert watch.written().remounts == 1

    @pytest.mark.fault(8)
    def test_a_save_that_kept_us_from_looking_counts_as_under_way(self, watch):
        prober = SilentProber()
        watch.begin(prober=prober, clock=lambda: 5000.0)
        prober.aborted_by_helper = 12.0
        lost = watch.told()
        assert lost.cause == "hung"
        assert "nor could its supervisor run" in lost.reason
        assert watch.told().cause == "hung"
        assert watch.written().lost == (4988.0, 5000.0)

    @pytest.mark.fault(6)
    def test_an_answer_that_is_not_overdue_says_nothing_of_what_was_saved(self, watch):
        # On a busy machine the helper gets its turn later than the mount is lost.
        prober = SilentProber()
        prober.silent = True
        watch.begin(prober=prober, clock=lambda: 5000.0, limits=PATIENT)
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        assert watch.told() == MountLost("fake ended: killed by SIGKILL")
        assert isinstance(watch.told(), Remounted)
        assert watch.written().lost == (5000.0, 5000.0)

    @pytest.mark.fault(8)
    def test_an_answer_that_is_overdue_does(self, watch):
        prober = SilentProber()
        prober.silent = True
        watch.begin(prober=prober, clock=lambda: 5000.0, limits=replace(PATIENT, probe=0.5))
        assert isinstance(watch.told(), Problem)
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        assert isinstance(watch.told(), MountLost)
        assert isinstance(watch.told(), Remounted)
        assert watch.written().lost == (4999.5, 5000.0)

    @pytest.mark.fault(6)
    def test_one_that_was_mounted_anew_was_well_then(self, watch):
        def die() -> None:
            watch.mounter.self_check = lambda: None
            # As if the repair had taken long. It is looked at only once it is gone again.
            supervisor._monitor._looked_at -= 100.0
            watch.mounter.daemon.identity.send(signal.SIGKILL)
            watch.mounter.daemon.wait(LIMIT)

        supervisor = watch.begin(clock=lambda: 5000.0, limits=PATIENT)
        watch.mounter.self_check = die
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        for kind in (MountLost, Remounted, MountLost, Remounted):
            assert isinstance(watch.told(), kind)
        assert set(watch.written().lost) == {5000.0}

    @pytest.mark.fault(8, 33)
    def test_one_that_works_and_does_not_answer_yet_is_left_alone(self, watch):
        watch.mounter.busy()
        prober = SilentProber()
        prober.silent = True
        watch.begin(prober=prober)
        told = watch.told()
        assert isinstance(told, Problem)
        assert "its daemon works" in told.reason
        prober.silent = False
        watch.stop()
        assert watch.mounter.calls == []

    @pytest.mark.fault(8)
    def test_it_is_not_ended_for_a_helper_that_is_silent(self, watch):
        # Long enough for a hang, from a daemon that does nothing; but nothing waits for it.
        prober = SilentProber()
        prober.silent = True
        watch.mounter.requests = 0
        watch.begin(prober=prober)
        told = watch.told()
        assert isinstance(told, Problem)
        assert told.reason.endswith("but nothing waits for it")
        wait_until(lambda: prober.renewed)
        watch.stop()
        assert watch.mounter.calls == []

    def test_it_goes_on_when_it_cannot_look_for_a_while(self, watch):
        prober = SilentProber()
        hindered = threading.Event()
        hindered.set()
        asked = prober.ask

        def ask(guarded: Guarded | None = None) -> None:
            if hindered.is_set():
                raise OSError(errno.EMFILE, "Too many open files")
            asked(guarded)

        prober.ask = ask
        supervisor = watch.begin(prober=prober)
        told = watch.told()
        assert isinstance(told, Problem)
        assert (
            told.reason == "The mount at /mnt cannot be watched now: [Errno 24] Too many open files"
        )
        hindered.clear()
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        assert isinstance(watch.told(), MountLost), "or it was said twice"
        assert isinstance(watch.told(), Remounted)
        assert not supervisor.finished.is_set()

    def test_it_goes_on_when_nobody_can_be_told(self, watch):
        def gone(_: object) -> None:
            raise BrokenPipeError

        supervisor = watch.begin(observer=gone)
        first = watch.mounter.daemon.identity
        first.send(signal.SIGKILL)
        wait_until(lambda: watch.written().remounts > 0)
        assert not supervisor.finished.is_set()

    def test_an_answer_that_says_it_is_gone(self, watch):
        prober = SilentProber()
        prober.error = errno.ENOTCONN
        watch.begin(prober=prober)
        assert "not connected" in watch.told().reason

    def test_in_the_end_it_gives_up_and_says_why(self, watch):
        watch.mounter.start_errors = [MountUnavailableError("The store is away.")]
        supervisor = watch.begin(attempts=1)
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        assert isinstance(watch.told(), MountLost)
        given_up = watch.told()
        assert isinstance(given_up, MountFailed)
        assert "The store is away." in given_up.reason
        assert supervisor.finished.wait(LIMIT)
        assert not supervisor.stopped
        assert watch.written().state == state.FAILED
        assert watch.written().reason == given_up.reason

    def test_an_error_of_the_disk_is_no_silent_end(self, watch):
        watch.mounter.start_errors = [OSError("no space left on device")]
        supervisor = watch.begin(attempts=1)
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        assert supervisor.finished.wait(LIMIT)
        assert watch.written().state == state.FAILED


class FullDisk:
    """The state directory's disk takes no record while it is full for it."""

    def __init__(self, watch: Watch, monkeypatch) -> None:
        self.full = lambda record: True
        self.taken: list[MountRecord] = []
        self._write = watch.mounter.directory.write
        monkeypatch.setattr(watch.mounter.directory, "write", self.write)

    def write(self, record: MountRecord) -> None:
        if self.full(record):
            raise OSError(errno.ENOSPC, "No space left on device")
        self._write(record)
        self.taken.append(record)

    def free(self) -> None:
        self.full = lambda record: False


@pytest.fixture
def disk(watch, monkeypatch):
    return FullDisk(watch, monkeypatch)


@pytest.mark.fault(7, 15)
class TestFullDisk:
    def test_it_does_not_serve_again_before_its_loss_is_written(self, watch, disk):
        watch.begin(attempts=100, limits=PATIENT)
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        told = watch.told()
        assert isinstance(told, Problem)
        assert "cannot be written" in told.reason
        assert isinstance(watch.told(), MountLost)
        wait_until(lambda: watch.supervisor._failures > 0)
        assert watch.mounter.calls == []
        assert watch.written() == watch.record
        disk.free()
        assert isinstance(watch.told(), Remounted), "or it was said twice"
        # The loss came first, and a start after it.
        assert (disk.taken[0].state, len(disk.taken[0].lost)) == (state.REPAIRING, 2)
        assert disk.taken[0].daemon == watch.record.daemon
        assert len(watch.written().lost) == 2
        assert watch.mounter.calls.count("start") == 1

    def test_if_it_stays_full_the_mount_is_given_up_and_written_down_later(self, watch, disk):
        supervisor = watch.begin(attempts=1, limits=PATIENT)
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        assert supervisor.finished.wait(LIMIT)
        assert watch.mounter.calls == []
        told = [watch.told() for _ in range(3)]
        assert "No space left on device" in told[-1].reason
        disk.free()
        wait_until(lambda: watch.written().state == state.FAILED)
        assert len(watch.written().lost) == 2

    def test_that_it_serves_again_is_written_when_there_is_room(self, watch, disk):
        disk.full = lambda record: record.state == state.SERVING
        watch.begin(limits=PATIENT)
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        told = [watch.told() for _ in range(3)]
        assert [type(event) for event in told] == [MountLost, Problem, Remounted]
        assert watch.written().state == state.REPAIRING
        assert watch.written().daemon == watch.mounter.daemon.identity
        disk.free()
        wait_until(lambda: watch.written().state == state.SERVING)
        assert watch.written().remounts == 1
        assert watch.mounter.calls.count("start") == 1

    def test_no_mount_serves_whose_device_nobody_can_know(self, watch, disk):
        first = watch.mounter.daemon.identity
        disk.full = lambda record: record.daemon != first
        watch.begin(attempts=100, limits=PATIENT)
        first.send(signal.SIGKILL)
        assert isinstance(watch.told(), MountLost)
        assert isinstance(watch.told(), Problem)
        wait_until(lambda: watch.supervisor._failures > 0)
        assert watch.written().daemon == first
        disk.free()
        assert isinstance(watch.told(), Remounted)
        assert watch.written().daemon == watch.mounter.daemon.identity
        assert watch.mounter.calls.count("start") > 1


class TestStrays:
    """Files that bypassed the mount, and cannot be taken care of at once."""

    @pytest.mark.fault(15)
    def test_one_that_cannot_be_moved_does_not_keep_the_mount_from_serving(
        self, watch, monkeypatch
    ):
        monkeypatch.setattr("mountkit.supervision.supervisor.BYPASSED_SECONDS", 0.0)
        full = OSError(errno.ENOSPC, "No space left on device")
        watch.mounter.stray_errors = [None, full, full]
        watch.begin(limits=PATIENT)
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        told = [watch.told() for _ in range(3)]
        assert [type(event) for event in told] == [MountLost, Remounted, Problem]
        assert "cannot be moved: [Errno 28]" in told[2].reason
        assert watch.written().state == state.SERVING
        wait_until(lambda: watch.mounter.calls.count("strays") == 4)
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        assert isinstance(watch.told(), MountLost), "or it was said twice"

    def test_it_does_not_serve_before_they_are_known_by_name(self, watch):
        refused = OSError(errno.EACCES, "Permission denied")
        watch.mounter.name_errors = [refused, refused]
        watch.begin(limits=PATIENT)
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        told = [watch.told() for _ in range(2)]
        assert [type(event) for event in told] == [MountLost, Problem]
        assert "cannot record" in told[1].reason
        assert isinstance(watch.told(), Remounted), "or it was said twice"
        assert watch.written().state == state.SERVING
        assert watch.mounter.calls.count("start") == 1
        assert watch.mounter.calls.count("name") == 3

    def test_a_mount_that_comes_back_by_itself_is_not_lost_for_ever(self, watch, disk):
        prober = SilentProber()
        supervisor = watch.begin(prober=prober, attempts=100)
        watch.mounter.daemon.identity.send(signal.SIGSTOP)
        prober.silent = True
        while not isinstance(watch.told(), MountLost):
            pass
        # It could not be ended, because that could not be written down.
        watch.mounter.daemon.identity.send(signal.SIGCONT)
        prober.silent = False
        prober.answered = Answered(serving=True, seconds=0.0, at=time.monotonic())
        wait_until(lambda: supervisor.record.state == state.SERVING)
        disk.free()
        wait_until(lambda: watch.written() == supervisor.record)
        assert len(watch.written().lost) == 3
        assert watch.written().remounts == 0
        assert "start" not in watch.mounter.calls


class TestAnswered:
    """What others may know of the mount without asking it."""

    @pytest.mark.parametrize(
        ("limits", "seconds"),
        [
            (HealthLimits(interval=0.5, probe=5.0), 5.0),
            (HealthLimits(interval=3.0, probe=5.0), 5.0),
            # The next answer is not there any sooner.
            (HealthLimits(interval=0.5, probe=1.0), 2.5),
            (HealthLimits(interval=30.0, probe=5.0), 32.0),
        ],
    )
    def test_how_long_an_answer_counts(self, limits, seconds):
        assert longest_silence(limits) == seconds

    @pytest.mark.parametrize(("age", "serving"), [(0.0, True), (900.0, True), (1000.0, False)])
    def test_an_answer_does_not_count_for_ever(self, watch, age, serving):
        prober = SilentProber()
        prober.answered = Answered(serving=True, seconds=0.25, at=time.monotonic() - age)
        supervisor = watch.begin(prober=prober, limits=PATIENT)
        wait_until(lambda: supervisor.answered().seconds == 0.25)
        assert supervisor.answered() == replace(prober.answered, serving=serving)

    def test_it_was_seen_to_serve_when_it_was_mounted(self, watch):
        prober = SilentProber()
        prober.silent = True
        assert watch.begin(prober=prober, limits=PATIENT).answered().serving

    def test_a_bad_answer_that_is_no_reason_to_mount_again(self, watch):
        prober = SilentProber()
        prober.error = errno.EACCES
        prober.answered = Answered(serving=False, seconds=0.25, at=time.monotonic())
        supervisor = watch.begin(prober=prober, limits=PATIENT)
        wait_until(lambda: not supervisor.answered().serving)
        assert supervisor.record.state == state.SERVING

    @pytest.mark.parametrize(
        "last",
        [
            Answered(serving=True, seconds=0.25, at=math.inf),
            # Of the mount that is lost; the next one is not to be doubted for it.
            Answered(serving=False, seconds=0.25, at=-math.inf),
        ],
        ids=["well", "not well"],
    )
    def test_not_while_it_is_repaired_and_at_once_when_it_is(self, watch, last):
        prober = SilentProber()
        prober.answered = last
        meanwhile = []
        supervisor = watch.begin(prober=prober, limits=PATIENT)
        watch.mounter.self_check = lambda: meanwhile.append(supervisor.answered().serving)
        wait_until(lambda: supervisor.answered().seconds == 0.25)
        watch.mounter.daemon.identity.send(signal.SIGKILL)
        assert isinstance(watch.told(), MountLost)
        assert isinstance(watch.told(), Remounted)
        assert supervisor.answered().serving
        assert meanwhile == [False]

    def test_not_any_more_when_nobody_looks(self, watch):
        supervisor = watch.begin(limits=PATIENT)
        assert supervisor.answered().serving
        watch.stop()
        assert supervisor.record.state == state.SERVING
        assert not supervisor.answered().serving

    def test_not_any_more_while_it_is_unmounted(self, watch):
        supervisor = watch.begin(limits=PATIENT)
        meanwhile = []
        watch.mounter.unmounting = lambda: meanwhile.append(supervisor.answered().serving)
        watch.mounter.directory.ask_to_stop()
        assert supervisor.finished.wait(LIMIT)
        assert meanwhile == [False]


class TestStop:
    def test_it_leaves_the_mount_as_it_is(self, watch):
        before = open_descriptors()
        supervisor = watch.begin()
        watch.stop()
        assert supervisor.finished.is_set()
        assert not supervisor.stopped
        assert watch.mounter.calls == []
        assert watch.mounter.daemon.poll() is None
        assert watch.written() == watch.record
        assert open_descriptors() == before

    def test_it_does_not_wait_for_a_pause(self, watch):
        os.kill(watch.mounter.daemon.identity.pid, signal.SIGKILL)
        watch.mounter.daemon.wait(LIMIT)
        # After so many failures the pause is at least a quarter of a minute.
        supervisor = watch.begin(attempts=100, failures=9)
        watch.stop()
        assert supervisor.finished.is_set()
        assert watch.mounter.calls == []

    def test_twice_does_no_harm(self, watch):
        supervisor = watch.begin()
        watch.stop()
        supervisor.stop()

    def test_a_request_from_outside_is_carried_out(self, watch):
        supervisor = watch.begin()
        watch.mounter.directory.ask_to_stop()
        assert supervisor.finished.wait(LIMIT)
        assert supervisor.stopped
        assert watch.mounter.calls == ["unmount"]
        assert watch.written() is None
        assert not watch.mounter.directory.asked_to_stop()

    @pytest.mark.fault(7, 11)
    @pytest.mark.parametrize("left", [True, False])
    def test_what_was_given_up_stays_known_to_the_next_mount(self, watch, left):
        watch.mounter.left = left
        supervisor = watch.begin()
        watch.mounter.directory.ask_to_stop()
        assert supervisor.finished.wait(LIMIT)
        assert (watch.mounter.directory.unfinished() is not None) == left

    def test_a_request_comes_before_a_repair(self, watch):
        watch.mounter.directory.ask_to_stop()
        os.kill(watch.mounter.daemon.identity.pid, signal.SIGKILL)
        watch.mounter.daemon.wait(LIMIT)
        supervisor = watch.begin()
        assert supervisor.finished.wait(LIMIT)
        assert watch.mounter.calls == ["unmount"]

    def test_a_request_that_fails_is_told(self, watch):
        watch.mounter.unmount_error = MountUnavailableError("It is busy.")
        supervisor = watch.begin()
        watch.mounter.directory.ask_to_stop()
        assert supervisor.finished.wait(LIMIT)
        assert not supervisor.stopped
        assert watch.told() == MountFailed("It is busy.")
        assert watch.written().state == state.FAILED
