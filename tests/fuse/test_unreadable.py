"""What this machine knows of a mount cannot be read when it is to be drained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from light import checkpoint

from support.assertions import assert_proven

if TYPE_CHECKING:
    from support.rig import Bucket, Rig


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    # Only writers on Mountpoint keep the first.
    "name",
    [pytest.param("written.jsonl", marks=pytest.mark.uncached), "strays.json"],
)
def test_it_is_named_and_nothing_is_taken_for_proven(rig: Rig, bucket: Bucket, name: str) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "2"
    made = rig.mount(f"s3://{bucket.name}/run")
    assert made.code == 0, made
    rig.script("save:10")
    record = rig.record()
    assert record is not None
    file = rig.state / record.spec.id / name
    kept = file.read_bytes() if file.exists() else None
    file.unlink(missing_ok=True)
    file.mkdir()
    answer = rig.umount()
    assert answer.code == 75, answer
    assert name in answer.err
    assert f"{rig.target} (0 bytes): " in answer.err
    assert "ls -la" in answer.err
    assert rig.mounts() == [str(rig.target)]
    file.rmdir()
    if kept is not None:
        file.write_bytes(kept)
    again = rig.umount()
    assert again.code == 0, again
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
