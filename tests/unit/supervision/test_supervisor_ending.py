"""A supervisor that is stopped while it mounts again: nothing is started after that."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from mountkit.errors import MountUnavailableError
from mountkit.events import MountLost
from support.watch import LIMIT, PATIENT, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mountkit.supervision.supervisor import Supervisor


class Held:
    """Holds the supervisor's thread at one place of a remount until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.go.wait(LIMIT)


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.go.set()


@pytest.fixture
def watch(watch, held) -> Iterator[Watch]:
    yield watch
    held.go.set()


def lose(watch: Watch) -> Supervisor:
    supervisor = watch.begin(limits=PATIENT)
    watch.mounter.daemon.identity.send(signal.SIGKILL)
    assert isinstance(watch.told(), MountLost)
    return supervisor


def over(supervisor: Supervisor) -> None:
    """Its thread has ended."""
    ended = threading.Event()
    supervisor.at_end(ended.set)
    assert ended.wait(LIMIT)


@pytest.mark.fault(4, 40)
@pytest.mark.parametrize("place", ["starting", "clearing"])
def test_no_daemon_is_started_once_it_was_stopped(watch, held, place):
    if place == "starting":
        watch.mounter.starting = held
    else:
        watch.mounter.clearing = held
    supervisor = lose(watch)
    assert held.reached.wait(LIMIT)
    before = watch.mounter.daemon
    written = watch.written()
    assert not supervisor.stop(0.0)
    held.go.set()
    over(supervisor)
    assert watch.mounter.daemon is before
    assert before.poll() is not None
    assert watch.written() == written, "or the record that the session clears came back"
    assert supervisor.stop()
    assert supervisor.error is None, "that it was stopped is no failure of the mount"


@pytest.mark.fault(4, 40)
def test_one_that_comes_up_just_then_is_given_up(watch, held):
    def self_check() -> None:
        held()
        watch.mounter.starts.check()

    watch.mounter.self_check = self_check
    supervisor = lose(watch)
    assert held.reached.wait(LIMIT)
    assert not supervisor.stop(0.0)
    held.go.set()
    over(supervisor)
    assert watch.mounter.daemon.poll() is not None
    assert supervisor.error is None


def test_what_is_to_be_done_at_the_end_is_done_once_and_then_at_once(watch, held):
    done = []
    watch.mounter.starting = held
    supervisor = lose(watch)
    assert held.reached.wait(LIMIT)
    supervisor.at_end(lambda: done.append(threading.current_thread().name))
    supervisor.halt()
    assert done == []
    held.go.set()
    over(supervisor)
    assert done == [supervisor._thread.name]
    assert supervisor.stop()
    supervisor.at_end(lambda: done.append("now"))
    assert done == [supervisor._thread.name, "now"]


def test_a_failure_of_what_is_done_then_is_told_in_the_log(watch, caplog):
    def fail() -> None:
        raise MountUnavailableError("It is busy.")

    supervisor = watch.begin()
    supervisor.at_end(fail)
    watch.stop()
    over(supervisor)
    assert "could not be let go of" in caplog.text
