"""Two nodes that train together, each with a mount of its own, on one machine.

They are two mounts with a state and a cache of their own each.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from support.ranks import free_port, together
from support.rig import eventually
from support.training import Training

if TYPE_CHECKING:
    from pathlib import Path

    from support.rig import Answer, Bucket, Job, Rig


class Nodes:
    """The same training on two of them."""

    def __init__(
        self, rig: Rig, bucket: Bucket, name: str, *options: str, prefix: str = "run"
    ) -> None:
        port, source = free_port(), f"s3://{bucket.name}/{prefix}"
        self.rig = rig
        self.targets = (rig.target, rig.work / "other output")
        self.trainings = [
            Training(rig, f"{name} {node}", target) for node, target in enumerate(self.targets)
        ]
        self.jobs: list[Job] = []
        for node, training in enumerate(self.trainings):
            words = together(training, *options, each=1, nodes=2, node=node, port=port)
            job = rig.begin(source, words, target=self.targets[node], limit=200, **self.own(node))
            self.jobs.append(job)

    def own(self, node: int) -> dict[str, str]:
        """A machine is what it knows, and what it has not uploaded yet."""
        if node == 0:
            return {"MOUNTKIT_NODE": "0"}
        place: Path = self.rig.work / "other"
        return {
            "MOUNTKIT_NODE": str(node),
            "MOUNTKIT_STATE_DIR": str(place / "state"),
            "MOUNTKIT_CACHE_DIR": str(place / "cache"),
        }

    def wait(self) -> list[Answer]:
        return [job.wait() for job in self.jobs]

    def wait_as_a_scheduler(self) -> list[Answer]:
        """Wait for the end of both; where one fails, the other is told to end if it does not.

        One whose peer dies before they have met waits for it in torch, for minutes.
        """
        eventually(lambda: any(job.ended() for job in self.jobs), "one of the nodes ends", 200)
        if any(job.ended() and job.process.returncode != 0 for job in self.jobs):
            with contextlib.suppress(AssertionError):
                eventually(lambda: all(job.ended() for job in self.jobs), "both end", 20)
            for job in self.jobs:
                job.process.terminate()
        return self.wait()
