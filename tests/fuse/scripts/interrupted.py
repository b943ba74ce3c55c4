"""Run mountkit, and send this process a signal just as a function of it returns.

``python interrupted.py FUNCTION SIGNAL COMMAND...``, a command line of mountkit, or
``python interrupted.py FUNCTION SIGNAL api SOURCE TARGET ENDPOINT BACKEND`` for that of Python.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import mountkit
from mountkit.cli import main
from mountkit.lifecycle import open as opening
from mountkit.lifecycle.session import Session
from mountkit.linux.daemon import Daemon

FUNCTIONS = {
    "daemon made": Daemon.start.__func__,
    "mounted": opening.mount_anew,
    "opened": Session.open.__func__,
}


def signal_at(function, number: int) -> None:
    def at_return(_frame, event, _argument):
        if event == "return":
            sys.settrace(None)
            os.kill(os.getpid(), number)
        return at_return

    def at_call(frame, _event, _argument):
        return at_return if frame.f_code is function.__code__ else None

    sys.settrace(at_call)


function, name, *command = sys.argv[1:]
signal_at(FUNCTIONS[function], signal.Signals[name])
if command[0] == "api":
    source, target, endpoint, backend = command[1:]
    try:
        with mountkit.mount(source, target, endpoint_url=endpoint, backend=backend) as mount:
            (Path(mount.path) / "entered").touch()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
else:
    sys.argv[1:] = command
    main()
