"""HDFS takes no colon in a name: rclone writes another one, and a proof finds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from light import named

from support import clouds
from support.every_store import Place, StoreRig

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("a:b", "10:30:00/events.out", "äöü: 検査 🚀")


@pytest.mark.fault(39)
def test_a_colon_in_a_name(fuse: None, tmp_path: Path) -> None:
    with clouds.hdfs(tmp_path) as kind:
        rig, place = StoreRig.over(kind), Place(kind)
        try:
            actions = [f"name:{step}:{name.encode().hex()}" for step, name in enumerate(NAMES, 10)]
            answer = rig.run(place.url, rig.light(*actions))
            assert answer.code == 0, answer
            for step, name in enumerate(NAMES, 10):
                listed = {file["path"] for file in place.manifest(f"checkpoint-{step}")["files"]}
                assert listed == set(named(step, name))
                assert rig.ask("verify", f"{place.url}/checkpoint-{step}").code == 0
            assert rig.left() == []
        finally:
            rig.sweep()
