"""A cache on a volume that survives the pod: the next pod uploads what the last one could not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.cluster.release import Release

CLAIM = "cache"
# The kernel lets nobody in a container kill its first process: that one is tini, and ends then.
LINE = "[ -e /mnt/run/note.txt ] || { echo kept > /mnt/run/note.txt; kill -9 -1; }"


@pytest.mark.fault(6, 36)
def test_killed_before_its_upload(release: Release) -> None:
    """The pod is gone without a word: the next one can ask neither for it nor for its processes."""
    release.make_claim(CLAIM, release.cluster.folder / f"{release.namespace}-claim")
    release.install("sh", "-c", LINE, cache={"type": "pvc", "existingClaim": CLAIM})
    assert release.await_end().kind == "Complete", release.story()
    codes = list(release.watcher.exit_codes().values())
    assert sorted(codes) == [0, 137], release.story()
    assert release.bucket.files("run") == {"note.txt": b"kept\n"}
