"""The images that users get, under the chart: what mounts, trains and proves in a real cluster."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.cluster.cluster import PACKAGE, poll
from support.rig import MOUNTING

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.cluster import Cluster
    from support.cluster.release import Release

STEPS = 6


@pytest.fixture(scope="session")
def built(cluster: Cluster) -> dict[str, str]:
    """The sidecar's image as values of the chart: the trainer's is the same, and 6 GB of torch."""
    image = os.environ.get("MOUNTKIT_TEST_SIDECAR")
    if not image:
        pytest.skip("there is no image: .ci/setup-container builds it")
    return cluster.load(image)


@pytest.fixture
def command(training: Callable[..., list[str]]) -> list[str]:
    """A training by the Python of the tests, which every container has: the image has no torch."""
    python, *words = training(STEPS)
    # By what `run` has put there each Python below it finds its Trainers.
    line = f'PYTHONPATH="$PYTHONPATH:{PACKAGE}" exec "$@"'
    return ["sh", "-c", line, "sh", f"{Path(sys.executable).parent}/{python}", *words]


@pytest.mark.parametrize("backend", MOUNTING)
def test_an_ordinary_user_mounts(
    release: Release, command: list[str], built: dict[str, str], backend: str
) -> None:
    """With the device of the plugin and SYS_ADMIN, and no more."""
    release.install(*command, image=built, settings={"backend": backend})
    assert release.await_end().kind == "Complete", release.story()
    release.assert_whole(STEPS)


@pytest.mark.fault(9)
def test_a_sidecar_that_dies(
    release: Release, cluster: Cluster, command: list[str], built: dict[str, str]
) -> None:
    """It is started again, and the run ends with all of it proven."""
    release.install(*command, image=built, fuse={"mode": "sidecar", "sidecar": built})
    release.await_proven(2)
    cluster.kill(release.pod(release.running()), "mountkit")
    assert release.await_end().kind == "Complete", release.story()
    poll(lambda: release.watcher.exit_codes("mountkit"), "ended: the sidecar", 60)
    release.assert_whole(STEPS)
