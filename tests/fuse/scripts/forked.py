"""Runs a script in a fork of a process that has torch and transformers loaded, as if it were this.

``python -S forked.py SOCKET SCRIPT ARGUMENT...``: the script has this process's environment,
directory and streams, the signals that come here reach it, and its end is this process's end. When
this one is killed, it is killed too. The other side is ``support/preloaded.py``.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1)


def main() -> None:
    address, *argv = sys.argv[1:]
    request = {"argv": argv, "env": dict(os.environ), "cwd": str(Path.cwd())}
    content = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        for number in FORWARDED:
            signal.signal(number, lambda number, _: server.sendall(bytes([number])))
        socket.send_fds(server, [len(content).to_bytes(4, "big")], [0, 1, 2])
        server.sendall(content)
        told = server.recv(4)
    if len(told) < 4:
        sys.exit("The process that had torch loaded is gone.")
    status = int.from_bytes(told, "big")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
