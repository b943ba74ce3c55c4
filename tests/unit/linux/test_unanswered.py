"""A thread that could not run has not waited for an answer."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time

import pytest

from mountkit.linux.unanswered import Seen, Silence, SilentError, answer, see

TURN = 0.1
WAITS = "S"


def silence_of(*turns):
    """After turns of so many seconds, in which the thread was in that state and at work so long."""
    silence, now, worked = Silence(0.0, 7.0), 0.0, 0.0
    for seconds, state, busy in turns:
        now += seconds
        worked += busy
        silence.look(now, Seen(state, worked), 7.0)
    return silence.seconds


def test_only_what_is_waited_for_something_else_counts():
    assert silence_of((TURN, WAITS, 0.0)) == pytest.approx(TURN)
    assert silence_of((TURN, WAITS, 0.08)) == pytest.approx(0.02)
    assert silence_of((TURN, WAITS, 0.0), (TURN, WAITS, TURN)) == pytest.approx(TURN)


def test_whoever_looks_and_has_no_processor_keeps_the_other_from_running():
    silence = Silence(0.0, 7.0)
    silence.look(TURN, Seen(WAITS, 0.0), 7.0 + TURN)
    assert silence.seconds == pytest.approx(0.0)


@pytest.mark.parametrize("state", ["R", "D"])
def test_whoever_is_ready_to_run_or_reads_from_a_disk_waits_for_no_answer(state):
    assert silence_of(*[(TURN, state, 0.0)] * 100) == 0.0


def test_a_moment_in_which_nobody_looked_is_no_long_silence():
    # The whole process was stopped, or starved.
    assert silence_of((500.0, WAITS, 0.0)) <= 2 * TURN


def test_where_the_kernel_does_not_say_everything_counts():
    assert silence_of(*[(TURN, "", 0.0)] * 10) == pytest.approx(1.0)


def run(work):
    """Start it; the queue of what it returns, and its thread."""
    outcome = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: outcome.put(work()), daemon=True)
    thread.start()
    return outcome, thread


def test_a_thread_that_waits_in_vain_is_given_up():
    never = threading.Event()
    with pytest.raises(SilentError):
        answer(*run(never.wait), 0.3)
    never.set()


def test_a_thread_that_works_is_waited_for():
    def work():
        until = time.thread_time() + 0.6
        while time.thread_time() < until:
            pass
        return "done"

    assert answer(*run(work), 0.3) == "done"


def test_a_thread_that_has_no_processor_is_waited_for():
    """On one processor, and another process takes its turns there first."""
    cpu = min(os.sched_getaffinity(0))
    busy = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); print(1, flush=True)\n"
    hogs = [
        subprocess.Popen(
            [sys.executable, "-c", f"{busy}while True: pass", str(cpu)], stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]

    def work():
        os.sched_setaffinity(0, {cpu})
        until = time.thread_time() + 0.3
        while time.thread_time() < until:
            pass
        return "done"

    try:
        for hog in hogs:
            assert hog.stdout.readline()
        assert answer(*run(work), 0.3) == "done"
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
            hog.stdout.close()


def test_a_thread_that_has_ended_is_not_seen_to_have_waited_longer_than_anybody_looked():
    gone = threading.Thread()
    gone._native_id = 1 << 30
    assert see(gone) == Seen("", 0.0)
    assert silence_of((TURN, WAITS, 50.0), (TURN, "", -50.0)) == pytest.approx(TURN)
