"""Runs a program until it ends, or the process does that wanted it; see ``bound``. Run as a script.

Usage: ``bound_child.py PARENT PROGRAM [ARGUMENT...]``.
"""

import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1
GONE = 1


def main(words: list[str]) -> int:
    """The life of the process between."""
    parent, argv = int(words[0]), words[1:]
    try:
        wanted = os.pidfd_open(parent)
    except ProcessLookupError:
        return GONE
    if os.getppid() != parent:
        return GONE
    me = os.getpid()
    child = os.fork()
    if child == 0:
        # Of the thread that forked: this process has but one.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == me:
            os.execv(argv[0], argv)  # noqa: S606 - a program, and no words for a shell
        os._exit(GONE)
    program = os.pidfd_open(child)
    poll = select.poll()
    for each in (wanted, program):
        poll.register(each, select.POLLIN)
    ended = [descriptor for descriptor, _ in poll.poll()]
    if program not in ended:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
