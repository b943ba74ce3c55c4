"""The training script: its command line, and what it left."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support import preloaded
from support.assertions import assert_proven
from support.rig import SCRIPTS

if TYPE_CHECKING:
    from pathlib import Path

    from support.rig import Bucket, Rig


class Training:
    """The command line of the training script, and what it left on the local disk."""

    def __init__(self, rig: Rig, name: str = "first", target: Path | None = None) -> None:
        self.rig = rig
        self.target = target or rig.target
        self.reference = rig.work / f"{name} reference"
        self.report_file = rig.work / f"{name} report.json"
        self.reference.mkdir()

    def command(self, *options: str) -> list[str]:
        """The training in a fork of a process that has loaded what takes long."""
        return preloaded.command(self.rig.python, SCRIPTS / "train.py", self._words(options))

    def from_the_start(self, *options: str) -> list[str]:
        """The training in a Python of its own, where it matters how that one starts."""
        return [self.rig.python, str(SCRIPTS / "train.py"), *self._words(options)]

    def _words(self, options: tuple[str, ...]) -> list[str]:
        places = [self.target, self.rig.gates, self.reference, self.report_file]
        return [*map(str, places), *options]

    @property
    def report(self) -> dict[str, Any]:
        return json.loads(self.report_file.read_text())

    def written(self, step: int, weights: str = "model.safetensors") -> dict[str, bytes]:
        """What Trainer wrote for a checkpoint, as copied when it had just been saved."""
        top: Path = self.reference / f"checkpoint-{step}"
        files = {
            path.relative_to(top).as_posix(): path.read_bytes()
            for path in top.rglob("*")
            if path.is_file()
        }
        assert {weights, "trainer_state.json"} <= set(files)
        return files

    def assert_proven(self, bucket: Bucket, step: int) -> None:
        assert_proven(bucket, f"run/checkpoint-{step}", self.written(step))


def checkpoints(bucket: Bucket) -> set[str]:
    """All that a run has left at the top of its prefix, but for its logs."""
    return {path.partition("/")[0] for path in bucket.everything("run")} - {"logs"}
