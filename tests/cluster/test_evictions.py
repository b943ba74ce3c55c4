"""A training that loses its pod: whatever takes it away, the next pod goes on to the same end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from support.chaos import let_pass, seeded
from support.cluster.release import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.cluster import Cluster
    from support.cluster.release import Release

#: How often a pod is evicted, at random moments of its first seconds. In these it starts Python,
#: mounts, resumes, trains and saves.
EVICTIONS = int(os.environ.get("MOUNTKIT_TEST_EVICTIONS") or 2)
LATEST_SECONDS = 15.0
# Kubernetes waits twice as long for each further pod of a job, from ten seconds to minutes.
OF_ONE_JOB = 3
SERIES = [min(OF_ONE_JOB, EVICTIONS - before) for before in range(0, EVICTIONS, OF_ONE_JOB)]


@pytest.mark.fault(5, 7)
def test_deleted_evicted_and_drained(
    release: Release,
    cluster: Cluster,
    training: Callable[..., list[str]],
    undisturbed: dict[int, float],
    steps: int,
) -> None:
    release.install(*training(steps))
    release.await_proven(2)
    first = release.running()
    release.kubectl("delete", "pod", first, "--wait=false")
    second = release.running(besides=first)
    release.await_proven(release.proven()[-1] + 1)
    release.evict(second)
    third = release.running(besides=second)
    release.await_proven(release.proven()[-1] + 1)
    # Of the one node that there is, only this run's pods have to go.
    run = f"batch.kubernetes.io/controller-uid={release.job['metadata']['uid']}"
    words = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s"]
    try:
        cluster.kubectl("drain", "node1", f"--pod-selector={run}", *words, limit=70)
    finally:
        cluster.kubectl("uncordon", "node1")
    assert release.await_end().kind == "Complete", release.story()
    assert [release.watcher.exit_codes().get(pod) for pod in (first, second, third)] == [143] * 3
    release.assert_whole(steps)
    assert release.losses(steps) == undisturbed
    # Nothing of it was the training's fault.
    assert release.job["status"].get("failed", 0) == 0


@pytest.mark.fault(5, 7, 36)
@pytest.mark.parametrize(("number", "times"), list(enumerate(SERIES)))
def test_random_moments(
    release: Release, training: Callable[..., list[str]], number: int, times: int
) -> None:
    """The exit code, the Job and the bucket agree, whenever the pod is evicted."""
    moments = seeded(f"evictions {number}")
    # More than it can do between two evictions, so that it is evicted so often.
    steps = 16 + 24 * times
    release.install(*training(steps))
    pods: list[str] = []
    proven: list[int] = []
    for _ in range(times):
        pod = release.running(besides=pods[-1] if pods else "")
        let_pass(moments.uniform(0, LATEST_SECONDS))
        release.evict(pod)
        pods.append(pod)
        code = release.exit_code(pod)
        print(f"{pod} ended with {code}; proven: {release.proven()}")
        # The pod of a job that goes on cannot have ended well, and no code ends it for good.
        assert code not in {0, 2, 77, 78}, release.story()
        assert not release.ended(), release.story()
        # Nothing that was proven is ever lost, and nothing torn ever proven.
        assert set(proven) <= set(release.proven()), release.story()
        proven = release.proven()
        for step in proven:
            release.assert_to_the_byte(step)
        if code == 75:
            assert "not proven" in release.watcher.said(pod), release.story()
    assert release.await_end(LIMIT_SECONDS + steps).kind == "Complete", release.story()
    last = [code for pod, code in release.watcher.exit_codes().items() if pod not in pods]
    assert last == [0], release.story()
    assert release.job["status"].get("failed", 0) == 0, release.story()
    release.assert_whole(steps)
