"""Uses mountkit.mount() from Python, and says how it ended as one JSON object on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from light import checkpoint, wait_for, write

import mountkit


class TrainingError(Exception):
    """What the user's own code raises."""


def main() -> None:
    source, target, endpoint, backend, gates, mode = sys.argv[1:]
    told = {"error": None, "files": [], "before": None, "proven": []}
    try:
        with mountkit.mount(
            source, target, endpoint_url=endpoint, backend=backend, on_event=lambda _: None
        ) as mount:
            told["path"], told["source"] = mount.path, mount.source
            told["before"] = mount.latest_checkpoint()
            write(Path(mount.path) / "checkpoint-10", checkpoint(10))
            train(mode, Path(gates))
    except TrainingError as error:
        told["error"] = str(error)
    except mountkit_error() as error:
        told["error"] = type(error).__name__
        told["code"] = error.exit_code
        told["files"] = [problem.path for problem in getattr(error, "unproven", ())]
    print(json.dumps(told))


def train(mode: str, gates: Path) -> None:
    if mode == "raise":
        raise TrainingError("the loss is not a number")
    if mode == "pause":
        (gates / "written").touch()
        wait_for(gates / "go")


def mountkit_error() -> type[Exception]:
    from mountkit.errors import MountkitError

    return MountkitError


if __name__ == "__main__":
    main()
