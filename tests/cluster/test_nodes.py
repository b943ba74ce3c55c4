"""Two nodes: two pods under torchrun, each with a mount of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.cluster import Cluster
    from support.cluster.release import Release

STEPS = 12


@pytest.mark.fault(27, 31)
def test_one_of_two_is_killed(
    release: Release, cluster: Cluster, training: Callable[..., list[str]]
) -> None:
    release.install(*training(STEPS), nodes=2)
    release.await_proven(2)
    killed = release.running(index=1)
    cluster.kill(release.pod(killed), "trainer")
    assert release.await_end(480).kind == "Complete", release.story()
    assert release.watcher.exit_codes()[killed] == 137
    release.assert_whole(STEPS)
    for step in release.proven():
        files = release.bucket.files(f"run/checkpoint-{step}")
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(files), step
    assert sorted(release.watcher.exit_codes().values())[:2] == [0, 0]
