"""A Trainer that knows nothing of mountkit, over every store that is not S3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support import preloaded
from support.assertions import crc64
from support.every_store import KINDS, Kind, Place, StoreRig
from support.installed import needs
from support.rig import SCRIPTS, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

needs("transformers", "torch")


@pytest.fixture(params=KINDS)
def kind(
    request: pytest.FixtureRequest, fuse: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kind]:
    with KINDS[request.param](tmp_path_factory.mktemp(request.param)) as served:
        yield served


@pytest.fixture
def rig(kind: Kind) -> Iterator[StoreRig]:
    rig = StoreRig.over(kind)
    yield rig
    left = rig.left()
    rig.sweep()
    assert not left, "The test left behind: " + "; ".join(left)


def assert_proven(place: Place, step: int) -> None:
    """The bytes that the store's own client reads are those of the manifest."""
    found = place.files(f"checkpoint-{step}")
    listed = {
        entry["path"]: (entry["size"], entry["crc64nvme"])
        for entry in place.manifest(f"checkpoint-{step}")["files"]
    }
    assert {"model.safetensors", "optimizer.pt", "trainer_state.json"} <= set(found)
    assert {path: (len(data), crc64(data)) for path, data in found.items()} == listed


@pytest.mark.fault(6, 20, 23)
def test_its_daemon_is_killed_twice_and_it_goes_on_where_it_was(rig: StoreRig, kind: Kind) -> None:
    place, file = Place(kind), rig.work / "report.json"

    def words(*options: str) -> list[str]:
        places = [str(rig.target), str(rig.gates), str(file), "--limit", "2"]
        return preloaded.command(rig.python, SCRIPTS / "plain.py", [*places, *options])

    pauses = ["--pause-at", "3", "--pause-at", "5"]
    job = rig.begin(place.url, words("--steps", "6", *pauses), *rig.late, "--resume")
    for number, step in enumerate((3, 5), 1):
        rig.await_word(f"at-{step}", job)
        # Proven while it trains, and by nobody's hand.
        eventually(lambda at=step: place.manifest(f"checkpoint-{at - 1}"), "proven")
        rig.kill(rig.daemon())
        rig.await_remount(number)
        rig.say(f"go-at-{step}")
    answer = job.wait()
    assert answer.code == 0, answer
    for step in (4, 6):
        assert_proven(place, step)
    assert place.files("checkpoint-2") == {}
    again = rig.run(place.url, words("--steps", "8"), *rig.late, "--resume")
    assert again.code == 0, again
    assert json.loads(file.read_text())["began_at"] == [6]
    assert_proven(place, 8)
