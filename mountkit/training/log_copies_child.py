"""Copies local files into a mount; see ``log_copies.apart``. Run as a script.

Usage: ``log_copies_child.py PARENT``, and on standard input an object: ``path``, where Python finds
mountkit; ``into``, a ``whole_file.Destination``; ``pairs``, each a local file and where it belongs.
Standard output gets an object a line: ``done``, a local file that was copied, or ``problem``.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
GONE = 1


def main(words: list[str]) -> int:
    """Copy, and say what came of it."""
    # What is being written is given up then, and not left as a file that looks whole.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(GONE))
    # With the thread that waits for this; it does so until its process ends.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(words[0]):
        return GONE
    given = json.load(sys.stdin)
    # A script may have a queue.py or json.py beside it.
    sys.path += given["path"]
    # It is found from here on only.
    from mountkit.writers.whole_file import Destination, copy_all

    def tell(name: str, text: str) -> None:
        print(json.dumps({name: text}), flush=True)

    pairs = [(Path(local), Path(there)) for local, there in given["pairs"]]
    into = Destination(**given["into"])
    copied = copy_all(into, pairs, tell=lambda local: tell("done", str(local)))
    for problem in copied.problems:
        tell("problem", problem)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
