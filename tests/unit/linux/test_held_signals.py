"""Signals that wait until something has changed hands."""

from __future__ import annotations

import signal
import threading

import pytest

from mountkit.linux.signals import ENDING, held_back


@pytest.fixture
def handled():
    """What each handler was called with, as a program's own handlers."""
    came = []
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        signal.signal(number, lambda number, _: came.append(number))
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_one_is_handled_at_the_end_and_not_before(handled, number):
    with held_back():
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert handled == []
    assert handled == [number]
    signal.raise_signal(number)
    assert handled == [number, number]


def test_an_interrupt_is_one_at_the_end(handled):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    reached = []

    def work() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_handlers_are_those_of_before_also_after_an_error(handled):
    before = [signal.getsignal(number) for number in ENDING]
    with pytest.raises(ValueError, match="no"), held_back():
        raise ValueError("no")
    assert [signal.getsignal(number) for number in ENDING] == before


def test_one_that_is_ignored_stays_so(handled):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with held_back():
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        signal.raise_signal(signal.SIGHUP)
    assert handled == []


def test_within_another_it_waits_for_the_outer_end(handled):
    with held_back():
        with held_back():
            signal.raise_signal(signal.SIGTERM)
        assert handled == []
    assert handled == [signal.SIGTERM]


def test_in_another_thread_nothing_is_held(handled):
    seen = []

    def work() -> None:
        with held_back():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
