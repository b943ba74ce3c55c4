"""A Python of its own that may hang."""

from __future__ import annotations

import os
import select
import time

import pytest

from mountkit.linux import helper


def test_its_status_what_it_printed_and_its_last_words():
    program = "import sys; print(sys.stdin.read() + sys.argv[1]); sys.exit('one\\ntwo')"
    ended = helper.run(["-c", program, "c"], 30.0, b"ab")
    assert (ended.status, ended.out, ended.err) == (1, b"abc\n", "two")


def test_one_that_hangs_is_ended_and_what_it_forked_with_it_and_what_it_said_is_known():
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    # Popen closes what is not said to be passed on, so the way is that of /proc.
    program = (
        "import os, sys, time; held = open(sys.argv[1], 'wb'); os.fork();"
        " print('said', flush=True); held.write(b'x'); held.flush(); time.sleep(600)"
    )
    ended = helper.run(["-c", program, f"/proc/{os.getpid()}/fd/{writer}"], 5.0)
    os.close(writer)
    assert ended.status is None
    assert set(ended.out.split()) == {b"said"}
    # Its end, and that of its child, close their ends.
    while select.select([reader], [], [], 30.0)[0] and os.read(reader, 10):
        pass
    assert select.select([reader], [], [], 0)[0]
    os.close(reader)


def test_who_watches_may_give_it_up():
    class OverError(Exception):
        pass

    looks = []

    def watch():
        looks.append(time.monotonic())
        if len(looks) == 2:
            raise OverError

    with pytest.raises(OverError):
        helper.run(["-c", "import time; time.sleep(600)"], 600.0, watch=watch)
    assert len(looks) == 2


def test_a_watch_makes_no_wait_longer_and_hides_no_end():
    assert helper.run(["-c", "import time; time.sleep(600)"], 0.7, watch=list).status is None
    assert helper.run(["-c", "raise SystemExit(3)"], 30.0, watch=list).status == 3
