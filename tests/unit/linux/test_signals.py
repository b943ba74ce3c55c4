"""Signals that are handled for a while."""

from __future__ import annotations

import signal
import threading

import pytest

from mountkit.linux.signals import handled, leave


def test_a_handler_has_them_and_then_whoever_had_them_before():
    heard = []
    before = signal.getsignal(signal.SIGUSR1)
    with handled([signal.SIGUSR1], lambda number, _: heard.append(number)):
        signal.raise_signal(signal.SIGUSR1)
    assert heard == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) is before


def test_they_are_given_back_after_an_error_too():
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(SystemExit) as stop, handled([signal.SIGUSR1], leave):
        signal.raise_signal(signal.SIGUSR1)
    assert stop.value.code == 128 + signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) is before


def test_in_another_thread_they_stay_as_they_are():
    before, seen = signal.getsignal(signal.SIGUSR1), []

    def look() -> None:
        with handled([signal.SIGUSR1], leave):
            seen.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(30.0)
    assert seen == [before]
