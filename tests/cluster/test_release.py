"""A release from its install to its uninstall, nobody disturbing it; and each way to mount."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.cluster.cluster import poll
from support.cluster.release import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.cluster import Cluster
    from support.cluster.release import Release

WRITE = "echo kept > /mnt/run/note.txt && sync"


def test_to_the_end(finished: Release, steps: int) -> None:
    assert list(finished.watcher.exit_codes().values()) == [0], finished.story()
    finished.assert_whole(steps)


def test_helm_test_and_uninstall(finished: Release, cluster: Cluster) -> None:
    before = finished.bucket.everything()
    tested = finished.test()
    assert tested.code == 0, f"{tested}\n{finished.story()}"
    assert finished.bucket.everything() == before
    finished.uninstall()
    # The Secret is ours. Pods are removed by the garbage collector, a moment later.
    poll(lambda: finished.everything() == {f"secret/{SECRET}"}, "all gone", 60)
    poll(lambda: not cluster.fuse_mounts(), "gone: every mount", 30)
    assert finished.bucket.everything() == before


def test_privileged(release: Release, cluster: Cluster) -> None:
    release.install("sh", "-c", WRITE, fuse={"mode": "privileged"})
    assert release.await_end().kind == "Complete", release.story()
    assert release.bucket.files("run")["note.txt"] == b"kept\n"


def test_sidecar(release: Release, training: Callable[..., list[str]]) -> None:
    """The trainer has no capabilities at all; what mounts ends after it, and proves the rest."""
    release.install(*training(4), fuse={"mode": "sidecar"})
    assert release.await_end().kind == "Complete", release.story()
    poll(lambda: release.watcher.exit_codes("mountkit"), "ended: the sidecar", 60)
    assert list(release.watcher.exit_codes("mountkit").values()) == [0], release.story()
    release.assert_whole(4)


@pytest.mark.fault(18)
def test_a_wrong_secret_ends_the_job_at_once(release: Release) -> None:
    release.kubectl(
        "patch", "secret", SECRET, "-p", '{"stringData": {"AWS_SECRET_ACCESS_KEY": "no"}}'
    )
    release.install("sh", "-c", WRITE)
    end = release.await_end()
    assert (end.kind, end.reason) == ("Failed", "PodFailurePolicy"), release.story()
    assert "exit code 77" in end.message
    [pod] = release.watcher.exit_codes()
    assert "The store refused the credentials" in release.kubectl("logs", pod).out


@pytest.mark.fault(19)
def test_a_missing_bucket_ends_the_job_at_once(release: Release) -> None:
    release.install("sh", "-c", WRITE, source="s3://nobody-has-made-it/run")
    end = release.await_end()
    assert (end.kind, end.reason) == ("Failed", "PodFailurePolicy"), release.story()
    assert "exit code 78" in end.message
    assert len(release.watcher.exit_codes()) == 1


@pytest.mark.fault(4)
def test_what_is_not_durable_is_done_again(release: Release) -> None:
    """The second pod finds what the first one wrote, which that one had proven before it ended."""
    line = f"[ -e /mnt/run/note.txt ] || {{ {WRITE} && exit 75; }}"
    release.install("sh", "-c", line)
    assert release.await_end().kind == "Complete", release.story()
    assert sorted(release.watcher.exit_codes().values()) == [0, 75]
    assert release.job["status"]["failed"] == 1
