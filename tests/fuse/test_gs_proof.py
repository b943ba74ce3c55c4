"""What a proof costs on Google Cloud Storage: no object is read, and a listing tells of many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from light import checkpoint, many

from support import clouds
from support.every_store import Place, StoreRig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.clouds import GoogleKind


@pytest.fixture(scope="module")
def kind(fuse: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleKind]:
    with clouds.gs(tmp_path_factory.mktemp("gs")) as served:
        yield served


@pytest.fixture
def rig(kind: GoogleKind) -> Iterator[StoreRig]:
    rig = StoreRig.over(kind)
    yield rig
    left = rig.left()
    rig.sweep()
    assert not left, "The test left behind: " + "; ".join(left)


@pytest.mark.fault(4)
def test_no_object_is_read_back_and_many_are_one_listing(rig: StoreRig, kind: GoogleKind) -> None:
    # More than rclone sends in one piece.
    place, count, size = Place(kind), 120, 20_000_000
    asked = kind.google.asked
    asked.clear()
    answer = rig.run(place.url, rig.light(f"save:10:{size}", f"many:20:{count}"))
    assert answer.code == 0, answer
    place.assert_proven("checkpoint-10", checkpoint(10, size))
    place.assert_proven("checkpoint-20", many(20, count))
    by = {file["attested_by"] for file in place.manifest("checkpoint-20")["files"]}
    assert by == {"crc32c"}
    # The lease is read, and what says that the run is there; of what was saved, nothing.
    read = [one for one in asked if one.media and "checkpoint-" in one.path]
    assert read == []
    # While they come, a few are asked for at a time, each once; a listing tells of the rest.
    assert len(_asked_alone(kind)) <= count
    asked.clear()
    assert rig.ask("verify", f"{place.url}/checkpoint-20").code == 0
    assert _asked_alone(kind) == []


def _asked_alone(kind: GoogleKind) -> list[str]:
    """The shards that were asked for one by one."""
    return [
        one.path
        for one in kind.google.asked
        if one.method == "GET" and "/o/" in one.path and "shard-" in one.path
    ]
