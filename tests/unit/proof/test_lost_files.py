"""A checkpoint that was proven, and moved in the store: what came along with its manifest."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mountkit.checkpoints.manifest import FileEntry, Manifest
from mountkit.names import MANIFEST_NAME
from mountkit.proof.lost_files import _not_moved_with_proof
from mountkit.spec import Source
from mountkit.store.checksums import REFERENCE, digest_bytes
from support.fakes import Bucket, FakeStore

pytestmark = pytest.mark.fault(45)

DATA = {"model": b"weights", "sub/part": b"more"}


@pytest.fixture
def bucket() -> Bucket:
    """A run's, in which checkpoint-2 was renamed to epoch-1."""
    bucket = Bucket()
    entries = tuple(
        FileEntry(name, len(data), digest_bytes(data).values[REFERENCE], "write", REFERENCE)
        for name, data in DATA.items()
    )
    manifest = Manifest(2, datetime.now(UTC), "s3://bucket/run/checkpoint-2", entries)
    bucket.objects[f"run/epoch-1/{MANIFEST_NAME}"] = manifest.to_bytes()
    for name, data in DATA.items():
        bucket.objects[f"run/epoch-1/{name}"] = data
    return bucket


def named(bucket: Bucket) -> set[str]:
    store = FakeStore(bucket, Source("s3", "bucket", "run"))
    listed = list(store.list())
    objects = [info for info in listed if not info.path.endswith(MANIFEST_NAME)]
    return {info.path for info in _not_moved_with_proof(store, listed, objects)}


def test_what_its_manifest_describes_is_proven(bucket):
    assert named(bucket) == set()


@pytest.mark.parametrize("data", [b"WEIGHTS", b"longer than that"])
def test_what_was_written_over_since_is_not(bucket, data):
    bucket.objects["run/epoch-1/model"] = data
    assert named(bucket) == {"epoch-1/model"}


def test_nor_is_what_the_manifest_does_not_know_or_lies_elsewhere(bucket):
    bucket.objects["run/epoch-1/new"] = bucket.objects["run/model"] = DATA["model"]
    assert named(bucket) == {"epoch-1/new", "model"}


def test_a_manifest_that_cannot_be_trusted_says_nothing(bucket):
    bucket.objects[f"run/epoch-1/{MANIFEST_NAME}"] = b"{"
    assert named(bucket) == {"epoch-1/model", "epoch-1/sub/part"}
