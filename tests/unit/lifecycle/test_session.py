"""The end of a session: whatever cuts it short, a mount that is still there stays known."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from mountkit.config import timeouts
from mountkit.errors import MountUnavailableError, Unproven
from mountkit.lifecycle.session import Session
from mountkit.linux.process import ProcessIdentity
from mountkit.proof.report import DrainReport
from mountkit.state import cache_lock
from mountkit.state.bypassed_files import BypassedFile
from support.fakes import FakeMount


class FakeMounter:
    """Takes the mount away, unless something is ``in_the_way``; asks the table of nobody."""

    def __init__(self, mount: FakeMount) -> None:
        self.directory = mount.directory
        self.there = True
        self.in_the_way: BaseException | None = None
        self.released = False
        self.left = False
        self.seen: list[object] = []

    def leaves(self, record: object) -> bool:
        return self.left

    def mounted(self) -> bool:
        return self.there

    def record_bypassed(self) -> None:
        """There are none."""

    def quarantine_bypassed(self) -> bool:
        return False

    def unmount(self) -> None:
        if self.in_the_way is not None:
            raise self.in_the_way
        self.seen.append("unmount")
        self.there = False

    def release(self) -> None:
        self.released = True


class Ending:
    """A session whose mount serves."""

    def __init__(self, folder) -> None:
        self.mount = FakeMount(folder)
        self.mount.begin(daemon=ProcessIdentity.mine())
        self.mounter = FakeMounter(self.mount)
        self.report = DrainReport(0, (), ())
        self.cut_short: BaseException | None = None
        self.supervisor = SimpleNamespace(
            stop=lambda: True,
            halt=lambda: None,
            at_end=lambda work: work(),
            stopped=False,
            record=self.mount.record(),
        )
        self.session = Session(
            self.mount,
            self.mounter,
            self.supervisor,
            cache_lock.acquire(self.mount.spec),
            timeouts.Limits(1.0, 1.0, 1.0),
            SimpleNamespace(close=lambda: None),
            self._drain,
        )

    def _drain(self, *_, **__) -> DrainReport:
        self.mounter.seen.append("drain")
        if self.cut_short is not None:
            raise self.cut_short
        return self.report

    def let_go(self) -> bool:
        return self.mounter.released and cache_lock.is_free(self.mount.spec)


@pytest.fixture
def ending(tmp_path) -> Ending:
    return Ending(tmp_path)


CUT_SHORT = [KeyboardInterrupt(), SystemExit(143), MountUnavailableError("It stays.")]


@pytest.mark.fault(37)
@pytest.mark.parametrize("why", CUT_SHORT, ids=repr)
class TestAnUnmountThatIsCutShort:
    def test_keeps_the_record_of_a_mount_that_is_still_there(self, ending, why):
        before = ending.mount.record()
        ending.mounter.in_the_way = why
        with pytest.raises(type(why)):
            ending.session.close()
        left = ending.mount.record()
        assert (left.spec, left.daemon, left.state) == (before.spec, before.daemon, before.state)
        # This process may go on for long, and does not look after it any more.
        assert not left.supervisor.alive()
        assert ending.let_go()

    def test_clears_that_of_one_that_is_gone_and_still_names_its_daemon(self, ending, why):
        daemon = ending.mount.record().daemon
        ending.mounter.in_the_way, ending.mounter.there = why, False
        with pytest.raises(type(why)):
            ending.session.close()
        assert ending.mount.record() is None
        assert ending.mount.directory.unfinished().daemon == daemon
        assert ending.let_go()

    def test_so_does_one_whose_supervisor_cannot_be_stopped(self, ending, why):
        def stop() -> None:
            raise why

        ending.supervisor.stop = stop
        with pytest.raises(type(why)):
            ending.session.close()
        assert ending.mount.record() is not None
        assert ending.let_go()


def test_only_the_drain_may_be_cut_short(ending):
    seen = ending.mounter.seen

    @contextmanager
    def draining():
        seen.append("may be")
        yield
        seen.append("may not be")

    ending.session.finish(ended_well=True, draining=draining)
    assert seen == ["may be", "drain", "may not be", "unmount"]


def test_what_the_drain_could_not_prove_is_told_before_the_unmount(ending):
    ending.report = DrainReport(0, (), (Unproven("log", 3, "it is away"),))
    ending.session.finish(ended_well=True, drained=ending.mounter.seen.append)
    assert ending.mounter.seen == ["drain", ending.report, "unmount"]


def test_one_who_cannot_be_told_does_not_keep_the_mount(ending):
    def drained(_) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        ending.session.finish(ended_well=True, drained=drained)
    assert not ending.mounter.there
    assert ending.let_go()


def test_a_drain_that_is_cut_short_is_followed_by_the_unmount(ending):
    ending.cut_short = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        ending.session.finish(ended_well=True)
    assert not ending.mounter.there
    assert ending.mount.record() is None
    assert ending.let_go()


@pytest.mark.fault(7, 11)
@pytest.mark.parametrize("left", [True, False])
def test_what_was_given_up_from_outside_stays_known_to_the_next_mount(tmp_path, left):
    ending = Ending(tmp_path)
    ending.supervisor.stopped, ending.mounter.left = True, left
    ending.mount.directory.clear(unproven=left)
    ending.session.close()
    assert (ending.mount.directory.unfinished() is not None) == left


class Remounting:
    """A supervisor whose thread is at work in the mount, and ends after so many waits, or later."""

    def __init__(self, record, ends_after: int = 99) -> None:
        self.record = record
        self.stopped = False
        self.waits = 0
        self.halted = False
        self.why: BaseException | None = None
        self._ends_after = ends_after
        self._last = []

    def halt(self) -> None:
        self.halted = True

    def stop(self, _: float | None = None) -> bool:
        self.halted = True
        self.waits += 1
        if self.why is not None:
            raise self.why
        return self.waits > self._ends_after

    def at_end(self, work) -> None:
        self._last.append(work)

    def end(self) -> None:
        """The thread comes to its end."""
        for work in self._last:
            work()


@pytest.mark.fault(4, 40)
class TestASupervisorThatDoesNotEnd:
    def test_the_cache_stays_locked_and_the_mount_known_until_it_does(self, ending):
        remounting = ending.session.supervisor = Remounting(ending.mount.record())
        with pytest.raises(MountUnavailableError) as caught:
            ending.session.close()
        assert ending.mount.spec.cache_dir in caught.value.message
        assert f"mountkit status {ending.mount.path}" in caught.value.hint
        assert not cache_lock.is_free(ending.mount.spec)
        assert ending.mount.record() is not None
        assert not ending.mounter.released
        remounting.end()
        assert ending.mount.record() is None
        assert ending.mount.directory.unfinished() is not None
        assert ending.let_go()

    def test_one_whose_mount_is_there_again_is_left_to_be_taken_over(self, ending):
        remounting = ending.session.supervisor = Remounting(ending.mount.record())
        with pytest.raises(MountUnavailableError):
            ending.session.finish(ended_well=True)
        ending.mounter.there = True
        remounting.end()
        assert not ending.mount.record().supervisor.alive()
        assert ending.let_go()

    def test_one_that_only_waited_for_the_mount_is_no_failure(self, ending):
        ending.session.supervisor = Remounting(ending.mount.record(), ends_after=1)
        assert ending.session.finish(ended_well=True) == ending.report
        # Once more: it may have mounted meanwhile.
        assert ending.mounter.seen == ["drain", "unmount", "unmount"]
        assert ending.mount.record() is None
        assert ending.let_go()

    @pytest.mark.parametrize("why", [KeyboardInterrupt(), SystemExit(143)], ids=repr)
    def test_nor_is_the_cache_given_back_where_the_wait_is_cut_short(self, ending, why):
        remounting = ending.session.supervisor = Remounting(ending.mount.record())
        remounting.why = why
        with pytest.raises(type(why)):
            ending.session.close()
        assert remounting.halted
        assert not cache_lock.is_free(ending.mount.spec)
        remounting.end()
        assert ending.let_go()


@pytest.mark.fault(4, 9)
@pytest.mark.parametrize("heard", [True, False])
def test_what_nobody_hears_is_named_once_more(ending, heard):
    ending.mount.directory.bypassed.add([BypassedFile("checkpoint-10/model", 5, 1.0, "mark")])
    ending.report = DrainReport(0, (), (Unproven("checkpoint-10/model", 5, "beside the mount"),))
    ending.session.finish(ended_well=False, heard=heard)
    before = ending.mount.last_record().strays_before
    assert bool(ending.mount.directory.bypassed.unnamed(before)) is not heard
