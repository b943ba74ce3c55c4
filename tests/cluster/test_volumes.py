"""A run on a shared volume: nothing is mounted, and its pods have no right at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.cluster.cluster import poll
from support.cluster.release import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.cluster.release import Release

CLAIM = "shared"
#: What mountkit keeps for itself is beside the run, on the same volume.
VALUES: dict[str, Any] = {
    "source": "",
    "fuse": {"mode": "none"},
    "volume": {"existingClaim": CLAIM, "subPath": "run"},
    "cache": {"type": "pvc", "existingClaim": CLAIM},
}
# As in test_claims: of a pod that is killed, the first process ends then.
LINE = "[ -e /mnt/run/note.txt ] || { echo kept > /mnt/run/note.txt; kill -9 -1; }"


@pytest.fixture
def unmounted(release: Release) -> Release:
    """A release on a volume, where no pod may have more than the level allows.

    The volume is the folder of the release's bucket, in which its files are looked at.
    """
    shared = release.bucket.disk
    release.make_claim(CLAIM, shared)
    (shared / "run").mkdir()
    (shared / "run").chmod(0o777)
    level = "pod-security.kubernetes.io/enforce=restricted"
    release.cluster.kubectl("label", "namespace", release.namespace, level)
    return release


@pytest.mark.fault(5)
def test_deleted_in_the_middle(
    unmounted: Release,
    training: Callable[..., list[str]],
    undisturbed: dict[int, float],
    steps: int,
) -> None:
    release = unmounted
    release.install(*training(steps), **VALUES)
    release.await_proven(2)
    first = release.running()
    release.kubectl("delete", "pod", first, "--wait=false")
    second = release.running(besides=first)
    assert release.await_end().kind == "Complete", release.story()
    codes = release.watcher.exit_codes()
    # 75 where it was deleted in the middle of a save, of which there is a part then.
    assert codes[first] in {75, 143}, release.story()
    assert codes[second] == 0, release.story()
    told = release.kubectl("logs", second).out
    assert "the training goes on from /mnt/run/checkpoint-" in told, release.story()
    assert release.proven()[-1:] == [steps], release.story()
    for step in release.proven():
        release.assert_to_the_byte(step)
    assert release.losses(steps) == undisturbed

    data = release.bucket.everything()
    tested = release.test()
    assert tested.code == 0, f"{tested}\n{release.story()}"
    release.uninstall()
    left = {f"secret/{SECRET}", f"persistentvolumeclaim/{CLAIM}"}
    poll(lambda: release.everything() == left, "all gone but the claim", 60)
    assert release.bucket.everything() == data


@pytest.mark.fault(36)
def test_killed_before_its_proof(unmounted: Release) -> None:
    """The next pod knows which file the one before has left, and proves it."""
    unmounted.install("sh", "-c", LINE, **VALUES)
    assert unmounted.await_end().kind == "Complete", unmounted.story()
    codes = unmounted.watcher.exit_codes()
    assert sorted(codes.values()) == [0, 137], unmounted.story()
    [second] = [pod for pod, code in codes.items() if code == 0]
    told = unmounted.kubectl("logs", second).out
    assert "proven to be in file:///mnt/run: 1 file\n" in told, unmounted.story()
