"""A supervisor in which something fails that nobody foresaw: it is said, and it goes on."""

from __future__ import annotations

import signal

import pytest

from mountkit.events import MountFailed, MountLost, Problem, Remounted
from mountkit.state import record as state
from support.watch import LIMIT, PATIENT, SilentProber, wait_until


class Failing(SilentProber):
    """Fails when it is asked, as often as it is told to."""

    def __init__(self, error: Exception, times: int) -> None:
        super().__init__()
        self.error_raised = error
        self.times = times

    def ask(self, guarded=None) -> None:
        if self.times:
            self.times -= 1
            raise self.error_raised
        super().ask(guarded)


UNFORESEEN = [ValueError("not enough values to unpack"), KeyError("anew"), RecursionError()]


@pytest.mark.fault(6, 37)
@pytest.mark.parametrize("error", UNFORESEEN, ids=repr)
def test_it_is_said_and_the_mount_is_still_watched(watch, error, caplog):
    prober = Failing(error, 2)
    supervisor = watch.begin(prober=prober, limits=PATIENT)
    told = watch.told()
    assert isinstance(told, Problem)
    assert "The supervisor of the mount at /mnt failed, and goes on" in told.reason
    assert type(error).__name__ in told.reason
    assert "mountkit status /mnt" in told.reason
    assert "Traceback" in caplog.text
    wait_until(lambda: prober.guarded is not None)
    watch.mounter.daemon.identity.send(signal.SIGKILL)
    assert isinstance(watch.told(), MountLost), "or it was said twice"
    assert isinstance(watch.told(), Remounted)
    assert not supervisor.finished.is_set()


@pytest.mark.fault(6, 37)
def test_one_that_comes_each_time_gives_the_mount_up(watch, caplog):
    supervisor = watch.begin(prober=Failing(ValueError("no"), 99), limits=PATIENT, attempts=2)
    assert isinstance(watch.told(), Problem)
    given_up = watch.told()
    assert isinstance(given_up, MountFailed)
    assert "failed 2 times in a row, the last time with ValueError: no" in given_up.reason
    assert "mountkit status /mnt" in given_up.reason
    assert supervisor.finished.wait(LIMIT)
    assert (watch.written().state, watch.written().reason) == (state.FAILED, given_up.reason)
    assert str(supervisor.error) == "no"
    assert not supervisor.answered().serving
    # Files that were written are still to be drained through it.
    assert watch.mounter.daemon.poll() is None
    assert caplog.text.count("Traceback") == 2


@pytest.mark.fault(6)
@pytest.mark.parametrize("error", UNFORESEEN, ids=repr)
def test_one_while_it_mounts_again_is_followed_by_another_attempt(watch, error):
    watch.mounter.start_errors = [error]
    supervisor = watch.begin(limits=PATIENT)
    watch.mounter.daemon.identity.send(signal.SIGKILL)
    told = [watch.told() for _ in range(3)]
    assert [type(event) for event in told] == [MountLost, Problem, Remounted]
    assert type(error).__name__ in told[1].reason
    assert watch.written().remounts == 1
    assert len(watch.written().lost) == 2, "lost once"
    assert supervisor.error is None


@pytest.mark.fault(6)
def test_and_after_so_many_the_mount_is_given_up(watch):
    watch.mounter.start_errors = [KeyError("anew")] * 2
    supervisor = watch.begin(limits=PATIENT, attempts=2)
    watch.mounter.daemon.identity.send(signal.SIGKILL)
    while not isinstance(given_up := watch.told(), MountFailed):
        pass
    assert "2 attempts failed, the last one: 'anew'" in given_up.reason
    assert supervisor.finished.wait(LIMIT)


@pytest.mark.fault(6, 15)
def test_what_the_machine_lacks_for_a_while_never_does(watch):
    prober = Failing(MemoryError(), 3)
    supervisor = watch.begin(prober=prober, limits=PATIENT, attempts=1)
    assert watch.told() == Problem("The mount at /mnt cannot be watched now: MemoryError")
    wait_until(lambda: prober.guarded is not None)
    assert not supervisor.finished.is_set()
    watch.stop()
    assert watch.events.empty(), "or it was said twice"


@pytest.mark.fault(8)
def test_that_nobody_can_ask_the_mount_is_said_once(watch):
    prober = SilentProber()
    prober.problem = "the helper that asks it ends each time, the last one with exit status 1"
    watch.begin(prober=prober, limits=PATIENT)
    told = watch.told()
    assert "Whether the mount at /mnt hangs is not known: the helper" in told.reason
    asked = prober.guarded = None
    wait_until(lambda: prober.guarded is not asked)
    watch.mounter.daemon.identity.send(signal.SIGKILL)
    assert isinstance(watch.told(), MountLost), "or it was said twice"


@pytest.mark.fault(37)
def test_an_end_that_nobody_foresaw_is_said_too(watch, caplog):
    class Stuck(SilentProber):
        def close(self) -> None:
            raise ValueError("I/O operation on closed file")

    supervisor = watch.begin(prober=Stuck(), limits=PATIENT)
    watch.stop()
    assert supervisor.finished.is_set()
    assert "the supervisor of /mnt ended" in caplog.text
    assert isinstance(watch.told(), MountFailed)
