"""Runs that are started or ended in the same way by several tests."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psutil

from support.rig import SCRIPTS

if TYPE_CHECKING:
    from support.rig import Bucket, Job, Rig


def with_api(rig: Rig, bucket: Bucket, mode: str, endpoint: str = "") -> list[str]:
    url = endpoint or rig.server.endpoint_url
    place = [f"s3://{bucket.name}/run", str(rig.target), url, rig.backend, str(rig.gates), mode]
    return [rig.python, str(SCRIPTS / "with_api.py"), *place]


def kill_all(rig: Rig, job: Job) -> None:
    """The supervisor first, so that nobody mounts again."""
    record = rig.record()
    assert record is not None
    daemon = None if record.daemon is None else rig.daemon()
    job.process.kill()
    job.process.wait()
    if daemon is not None:
        rig.kill(daemon)
    for process in rig.processes():
        # Some end by themselves with what they belong to.
        with contextlib.suppress(psutil.NoSuchProcess):
            rig.kill(process)
