"""Signals while a command runs, and how long the rest may take."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading

import pytest

from mountkit.errors import UsageError
from mountkit.runner.run import execute
from mountkit.runner.signals import FORWARDED, Signals


def take_signals(number: signal.Signals, over: threading.Event) -> None:
    """Be the thread that gets a signal of this process, until it is over."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    over.wait(60)


class TestSignals:
    def test_the_handlers_are_put_back(self):
        watched = (*FORWARDED, signal.SIGINT)
        before = [signal.getsignal(number) for number in watched]
        execute(["/bin/true"])
        with pytest.raises(UsageError):
            execute(["/no/such/program"])
        assert [signal.getsignal(number) for number in watched] == before

    @pytest.mark.parametrize("number", [*FORWARDED, signal.SIGINT])
    def test_before_the_command_one_ends_everything(self, number):
        with pytest.raises(SystemExit) as stop, Signals():
            os.kill(os.getpid(), number)
        assert stop.value.code == 128 + number

    def test_one_that_comes_just_before_the_wait_is_passed_on(self):
        # As one does that does not interrupt the wait, for another thread has taken it.
        script = """
            import os, signal, time
            signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
            os.kill(os.getppid(), signal.SIGUSR1)
            time.sleep(10)
        """
        over = threading.Event()
        taker = threading.Thread(target=take_signals, args=(signal.SIGUSR1, over))
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        try:
            taker.start()
            assert execute([sys.executable, "-c", textwrap.dedent(script)]) == 7
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
            over.set()
            taker.join(30)

    @pytest.mark.fault(4)
    @pytest.mark.parametrize("number", [*FORWARDED, signal.SIGINT])
    def test_after_the_command_none_cuts_the_drain_short(self, number):
        told = []
        with Signals(at_once=told.append) as signals:
            assert signals.execute(["/bin/true"], {}) == 0
            os.kill(os.getpid(), number)
        assert told == ["still making sure that everything is in the store"]

    def test_of_the_drain_a_second_interrupt_does_and_nothing_else(self):
        told = []
        with Signals(at_once=told.append) as signals:
            signals.execute(["/bin/true"], {})
            with signals.draining():
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)
                assert told == ["still making sure that everything is in the store"] * 2
                with pytest.raises(KeyboardInterrupt):
                    os.kill(os.getpid(), signal.SIGINT)
        assert told[2:] == ["not waiting any longer; unmounting, which takes a few seconds"]

    def test_also_where_a_module_is_being_imported(self):
        class Field:
            def __set_name__(self, *_: object) -> None:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

        with Signals() as signals:
            signals.execute(["/bin/true"], {})
            with pytest.raises(KeyboardInterrupt), signals.draining():
                # Python 3.11 and earlier makes a RuntimeError of what breaks this off.
                type("Model", (), {"field": Field()})

    def test_another_error_of_the_drain_stays_what_it_is(self):
        with Signals() as signals:
            signals.execute(["/bin/true"], {})
            with pytest.raises(RuntimeError), signals.draining():
                raise RuntimeError

    def test_two_interrupts_before_the_drain_has_begun_end_it(self):
        with Signals() as signals:
            signals.execute(["/bin/true"], {})
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt), signals.draining():
                pytest.fail("it drained")

    @pytest.mark.fault(5)
    @pytest.mark.parametrize("number", [*FORWARDED, signal.SIGINT])
    def test_none_cuts_the_unmount_short(self, number):
        told = []
        with Signals(at_once=told.append) as signals:
            signals.execute(["/bin/true"], {})
            with signals.draining():
                pass
            for _ in range(3):
                os.kill(os.getpid(), number)
        assert told == ["unmounting; this takes a few seconds"] * 3

    @pytest.mark.parametrize("number", [*FORWARDED, signal.SIGINT])
    def test_a_second_one_does_not_cut_short_what_the_first_ended(self, number):
        with Signals():
            with pytest.raises(SystemExit) as stop:
                os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), number)
        assert stop.value.code == 128 + number

    def test_nor_does_one_after_a_command_that_cannot_be_run(self):
        with Signals() as signals:
            with pytest.raises(UsageError):
                signals.execute(["/no/such/program"], {})
            os.kill(os.getpid(), signal.SIGTERM)


class TestGrace:
    def test_a_command_that_does_not_end_is_ended_in_time_for_the_drain(self):
        said = []
        with Signals(2.0, said.append) as signals:
            # It tells us to end, and does not listen to what we pass on.
            script = "trap '' TERM; kill -TERM $PPID; while :; do sleep 60; done"
            assert signals.execute(["/bin/sh", "-c", script], {}) == 128 + signal.SIGKILL
        assert len(said) == 1
        assert "did not end" in said[0]
        assert signals.deadline.left is not None

    def test_one_that_ends_in_time_is_left_alone(self):
        said = []
        with Signals(1000.0, said.append) as signals:
            script = "trap 'exit 4' TERM; kill -TERM $PPID; while :; do sleep 0.01; done"
            assert signals.execute(["/bin/sh", "-c", script], {}) == 4
        assert said == []
        assert 0 < signals.deadline.left < 1000.0

    def test_a_signal_that_does_not_ask_for_the_end_sets_no_deadline(self):
        with Signals(1000.0) as signals:
            script = "trap : USR1; kill -USR1 $PPID; exit 3"
            assert signals.execute(["/bin/sh", "-c", script], {}) in {3, 128 + signal.SIGUSR1}
        assert signals.deadline.left is None

    def test_without_a_grace_there_is_no_deadline(self):
        with Signals() as signals:
            signals.execute(["/bin/sh", "-c", "trap : TERM; kill -TERM $PPID; exit 3"], {})
        assert signals.deadline.left is None
