"""Copies local files into a mount; see ``log_copies.apart``. Run as a script.

Usage: ``log_copies_child.py PARENT``, and on standard input an object: ``path``, where Python finds
mountkit; ``mount``; ``state``, where it is noted what is mounted; ``pairs``, each a local file and
where it belongs. Standard output gets an object a line: ``done``, a local file that was copied, or
``problem``.
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
    from mountkit.mounts.mount import Mount
    from mountkit.state.registry import State
    from mountkit.training import log_copies

    def tell(name: str, text: str) -> None:
        print(json.dumps({name: text}), flush=True)

    mount = Mount.containing(given["mount"], State(Path(given["state"])))
    if mount is None:
        tell("problem", f"nothing is mounted at {given['mount']}")
        return 0
    pairs = [(Path(local), Path(there)) for local, there in given["pairs"]]
    copied = log_copies.one_by_one(mount, pairs, tell=lambda local: tell("done", str(local)))
    for problem in copied.problems:
        tell("problem", problem)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
