"""Uses mountkit.mount() from Python, and says how it ended as one JSON object on stdout."""

from __future__ import annotations

import ctypes
import errno
import gc
import json
import os
import sys
import time
from pathlib import Path

from light import checkpoint, wait_for, write

import mountkit
from mountkit.supervision.supervisor import Supervisor


class TrainingError(Exception):
    """What the user's own code raises."""


def main() -> None:
    source, target, endpoint, backend, gates, mode = sys.argv[1:]
    told = {"error": None, "files": [], "before": None, "proven": [], "events": []}

    def hear(event: object) -> None:
        told["events"].append(f"{type(event).__name__} {getattr(event, 'cause', '')}".strip())

    try:
        with mountkit.mount(
            source, target, endpoint_url=endpoint, backend=backend, on_event=hear
        ) as mount:
            told["path"], told["source"] = mount.path, mount.source
            told["before"] = mount.latest_checkpoint()
            write(Path(mount.path) / "checkpoint-10", checkpoint(10))
            told["native"] = train(mode, Path(gates), Path(mount.path))
    except TrainingError as error:
        told["error"] = str(error)
    except mountkit_error() as error:
        told["error"] = type(error).__name__
        told["code"] = error.exit_code
        told["files"] = [problem.path for problem in getattr(error, "unproven", ())]
    print(json.dumps(told))


def train(mode: str, gates: Path, output: Path) -> str | None:
    if mode == "raise":
        raise TrainingError("the loss is not a number")
    if mode == "pause":
        (gates / "written").touch()
        wait_for(gates / "go")
    if mode == "hold":
        # Or the save counts as under way when the mount was last known to serve.
        await_answer()
        (gates / "written").touch()
        wait_for(gates / "go")
        native = open_with_the_lock_held(output / "new")
        # Or the end of the training may come before that of the remount.
        await_answer()
        return native
    return None


def await_answer() -> None:
    """Until the supervisor has the answer to a question that was asked after this."""
    now, limit = time.monotonic(), time.monotonic() + 60
    supervisor = next(thing for thing in gc.get_objects() if type(thing) is Supervisor)
    while supervisor.answered().at < now:
        assert time.monotonic() < limit
        time.sleep(0.01)


def open_with_the_lock_held(path: Path) -> str:
    """What native code does that saves without letting any other thread of Python run."""
    library = ctypes.PyDLL(None, use_errno=True)
    descriptor = library.open(os.fsencode(path), os.O_WRONLY | os.O_CREAT, 0o600)
    return "opened" if descriptor >= 0 else errno.errorcode[ctypes.get_errno()]


def mountkit_error() -> type[Exception]:
    from mountkit.errors import MountkitError

    return MountkitError


if __name__ == "__main__":
    main()
