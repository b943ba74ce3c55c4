"""What has to be in the store."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from awscrt import checksums

from support.rig import MANIFEST, assert_same

if TYPE_CHECKING:
    from support.rig import Bucket


def assert_proven(bucket: Bucket, name: str, expected: dict[str, bytes]) -> None:
    """The checkpoint is in the store byte for byte, and its manifest says so and came last."""
    assert_same(bucket.files(name), expected)
    manifest = bucket.manifest(name)
    assert manifest is not None, f"{name} has no manifest"
    assert manifest["format"] == 1
    listed = {entry["path"]: (entry["size"], entry["crc64nvme"]) for entry in manifest["files"]}
    assert listed == {path: (len(data), crc64(data)) for path, data in expected.items()}
    assert [entry["path"] for entry in manifest["files"]] == sorted(expected)
    arrived = bucket.arrived(name)
    assert arrived.pop(MANIFEST) >= max(arrived.values())


def crc64(data: bytes) -> str:
    return base64.b64encode(checksums.crc64nvme(data).to_bytes(8, "big")).decode()
