"""A manifest held against the store: every fault is named, and only faults are."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from mountkit.checkpoints.catalog import latest, scan
from mountkit.checkpoints.manifest import FileEntry, Manifest
from mountkit.checkpoints.retention import remove
from mountkit.checkpoints.verification import verify
from mountkit.errors import UsageError, VerificationError
from mountkit.names import MANIFEST_NAME
from mountkit.spec import Source
from mountkit.store import checksums
from mountkit.store.s3.store import S3Store
from support.stores import until

NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
FILES = {
    "model.safetensors": os.urandom(100_000),
    "optimizer.pt": os.urandom(50_000),
    "rng state/ränk 0.pth": os.urandom(100),
    "empty": b"",
}


def checkpoint(place, step=30, files=FILES, *, etags=True, name=None, saved=None, **how):
    """Upload a checkpoint and commit it; its name."""
    name = name or f"checkpoint-{step}"
    entries = []
    for path, data in files.items():
        place.put(f"{name}/{path}", data, **how)
        etag = place.store.stat(f"{name}/{path}").tag if etags else ""
        crc = checksums.digest_bytes(data).values["crc64nvme"]
        entries.append(FileEntry(path, len(data), crc, "write", "md5", etag))
    url = place.store.source.child(name).url
    moment = None if saved is None else NOW + timedelta(minutes=saved)
    manifest = Manifest(step, NOW, url, tuple(entries), moment)
    place.store.put(f"{name}/{MANIFEST_NAME}", manifest.to_bytes())
    return name


def flip(place, path):
    data = bytearray(place.store.get(path))
    data[len(data) // 2] ^= 1
    place.put(path, bytes(data))


@pytest.mark.parametrize("level", ["attest", "readback"])
def test_an_intact_checkpoint(place, level):
    name = checkpoint(place)
    verdict = verify(place.store, name, level)
    assert verdict.ok
    assert verdict.step == 30
    assert verdict.created == NOW
    assert verdict.url.endswith("/checkpoint-30")
    assert [file.path for file in verdict.files] == sorted(FILES)
    rung = "etag-unchanged" if level == "attest" else "read-back"
    assert {file.attested_by for file in verdict.files} == {rung}
    assert verdict.extra == ()


def test_the_stores_own_checksum_comes_first(moto):
    name = checkpoint(moto, ChecksumAlgorithm="CRC64NVME")
    verdict = verify(moto.store, name)
    assert {file.attested_by for file in verdict.files} == {"crc64nvme"}
    data = bytearray(FILES["optimizer.pt"])
    data[0] ^= 1
    moto.put(f"{name}/optimizer.pt", bytes(data), ChecksumAlgorithm="CRC64NVME")
    (fault,) = verify(moto.store, name).faults
    assert (fault.path, fault.problem, fault.attested_by) == (
        "optimizer.pt",
        "altered",
        "crc64nvme",
    )


def test_without_recorded_etags_the_bytes_are_read(place):
    name = checkpoint(place, etags=False)
    verdict = verify(place.store, name)
    assert verdict.ok
    assert {file.attested_by for file in verdict.files} == {"read-back"}


def test_the_source_can_be_the_checkpoint_itself(place):
    name = checkpoint(place)
    url = f"{place.prefix}/{name}"
    inner = S3Store(Source("s3", place.store.source.bucket, url), place.store.options)
    verdict = verify(inner, "")
    assert verdict.ok
    assert verdict.url == inner.source.url


@pytest.mark.fault(32)
@pytest.mark.parametrize("level", ["attest", "readback"])
def test_every_fault_is_named(place, level):
    name = checkpoint(place)
    flip(place, f"{name}/model.safetensors")
    place.put(f"{name}/optimizer.pt", FILES["optimizer.pt"][:-1])
    place.store.delete([f"{name}/rng state/ränk 0.pth"])
    place.put(f"{name}/stray", b"x")
    verdict = verify(place.store, name, level)
    assert not verdict.ok
    assert {file.path: file.problem for file in verdict.faults} == {
        "model.safetensors": "altered",
        "optimizer.pt": "size",
        "rng state/ränk 0.pth": "missing",
    }
    assert verdict.extra == ("stray",)


def test_extra_objects_are_told_and_no_fault(place):
    name = checkpoint(place)
    place.put(f"{name}/events/log", b"x")
    verdict = verify(place.store, name)
    assert verdict.ok
    assert verdict.extra == ("events/log",)


@pytest.mark.fault(32)
@pytest.mark.parametrize("level", ["attest", "readback"])
def test_a_byte_flipped_on_the_disk_of_the_store(rclone, level):
    name = checkpoint(rclone)
    path = rclone.disk / name / "model.safetensors"
    with path.open("r+b") as stream:
        stream.seek(777)
        stream.write(bytes([FILES["model.safetensors"][777] ^ 1]))
    until(lambda: not verify(rclone.store, name, level).ok)
    (fault,) = verify(rclone.store, name, level).faults
    assert (fault.path, fault.problem) == ("model.safetensors", "altered")


def test_the_json_is_the_documented_one(place):
    name = checkpoint(place, files={"a": b"abc"})
    place.store.delete([f"{name}/a"])
    found = json.loads(json.dumps(verify(place.store, name).to_json()))
    assert found == {
        "ok": False,
        "step": 30,
        "url": place.store.source.child(name).url,
        "created": NOW.isoformat(),
        "files": [
            {
                "path": "a",
                "problem": "missing",
                "expected": "3 bytes",
                "found": "no object",
                "attested_by": "",
                "etag": "",
            }
        ],
        "extra": [],
    }


def test_no_manifest_is_an_error_that_names_it(place):
    place.put("checkpoint-30/model.safetensors", b"x")
    with pytest.raises(VerificationError, match=f"checkpoint-30/{MANIFEST_NAME} is not there"):
        verify(place.store, "checkpoint-30")


def test_a_manifest_of_another_step_is_refused(place):
    name = checkpoint(place, 30, name="checkpoint-40")
    with pytest.raises(VerificationError, match="step 30, not of step 40"):
        verify(place.store, name)


def test_an_unknown_level(place):
    with pytest.raises(UsageError, match="hope"):
        verify(place.store, "checkpoint-30", "hope")


@pytest.mark.fault(39)
def test_a_hostile_manifest_leads_nowhere(place):
    name = checkpoint(place)
    path = f"{name}/{MANIFEST_NAME}"
    document = json.loads(place.store.get(path))
    document["files"][0]["path"] = "../../other/secret"
    place.put(path, json.dumps(document).encode())
    with pytest.raises(VerificationError, match="not a path inside"):
        verify(place.store, name)
    assert latest(place.store) is None


def test_scan(place):
    for step in (1000, 200, 30):
        checkpoint(place, step, {"a": b"x"})
    place.put("checkpoint-2000/model.safetensors", b"torn")
    place.put("checkpoint-010/a", b"not Trainer's")
    place.put("runs/events", b"x")
    place.put("checkpoint-7", b"a file, not a directory")
    found = [(item.step, item.name, item.proven) for item in scan(place.store)]
    assert found == [
        (30, "checkpoint-30", True),
        (200, "checkpoint-200", True),
        (1000, "checkpoint-1000", True),
        (2000, "checkpoint-2000", False),
    ]


@pytest.mark.fault(23)
def test_nothing_is_proven_on_a_first_run(place):
    assert scan(place.store) == ()
    assert latest(place.store) is None


def requests_of(place):
    count = []
    place.store.client().meta.events.register(
        "request-created.s3", lambda operation_name, **_: count.append(operation_name)
    )
    return count


def test_of_unproven_ones_alone_each_is_explained(place):
    place.put("checkpoint-10/model.safetensors", b"x")
    place.put("checkpoint-20/model.safetensors", b"x")
    skipped = {}
    assert latest(place.store, on_skip=skipped.__setitem__) is None
    assert sorted(skipped) == ["checkpoint-10", "checkpoint-20"]
    assert all(skipped.values())


def test_the_newest_costs_a_request_for_each_checkpoint(place):
    for step in (900, 1000, 8):
        checkpoint(place, step)
    count = requests_of(place)
    found = latest(place.store)
    assert (found.step, found.name) == (1000, "checkpoint-1000")
    assert found.url.endswith("/checkpoint-1000")
    assert len(found.manifest.files) == len(FILES)
    assert sorted(count) == ["GetObject"] * 3 + ["ListObjectsV2"] * 2


@pytest.mark.fault(48)
def test_what_another_training_left_at_a_higher_step_is_passed_over(place):
    for moment, step in enumerate((2, 8, 10, 4, 6)):
        checkpoint(place, step, {"a": b"x"}, saved=moment)
    skipped = []
    found = latest(place.store, on_skip=lambda name, why: skipped.append((name, why)))
    assert found.step == 6
    assert [name for name, _ in skipped] == ["checkpoint-10", "checkpoint-8"]
    assert "of a training that checkpoint-6, saved later, does not descend from" in skipped[0][1]


@pytest.mark.fault(32, 48)
def test_where_the_newest_is_broken_what_it_descends_from_is_taken(place):
    for moment, step in enumerate((2, 4, 8, 10, 6)):
        checkpoint(place, step, {"a": b"x"}, saved=moment)
    flip(place, "checkpoint-6/a")
    assert latest(place.store).step == 4
    # What cannot be read tells nothing of when it was saved.
    damage_manifest_of(place, 6)
    assert latest(place.store).step == 10


@pytest.mark.fault(48)
def test_where_all_that_a_training_has_is_broken_none_of_anothers_is_taken(place):
    checkpoint(place, 10, {"a": b"x"}, saved=0)
    checkpoint(place, 2, {"a": b"x"}, saved=1)
    flip(place, "checkpoint-2/a")
    skipped = {}
    assert latest(place.store, on_skip=skipped.__setitem__) is None
    assert "altered" in skipped["checkpoint-2"]
    assert "does not descend" in skipped["checkpoint-10"]


@pytest.mark.fault(48)
def test_those_of_an_older_mountkit_go_by_their_step(place):
    for step in (10, 2, 4):
        checkpoint(place, step, {"a": b"x"})
    assert latest(place.store).step == 10
    checkpoint(place, 6, {"a": b"x"}, saved=0)
    assert latest(place.store).step == 6


def damage_nothing_proven(place):
    place.put("checkpoint-50/model.safetensors", b"half")


def damage_empty(place):
    (place.disk / "checkpoint-50").mkdir()
    until(lambda: "checkpoint-50" in place.store.directories())


def damage_missing(place):
    checkpoint(place, 50)
    place.store.delete(["checkpoint-50/optimizer.pt"])


def damage_size(place):
    checkpoint(place, 50)
    place.put("checkpoint-50/optimizer.pt", b"short")


def damage_byte(place):
    checkpoint(place, 50)
    flip(place, "checkpoint-50/optimizer.pt")


def damage_manifest(place):
    checkpoint(place, 50)
    damage_manifest_of(place, 50)


def damage_manifest_of(place, step):
    place.put(f"checkpoint-{step}/{MANIFEST_NAME}", b'{"format": 1, "step"')


def damage_step(place):
    checkpoint(place, 30, name="checkpoint-50")


@pytest.mark.fault(22, 32)
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_nothing_proven, "no manifest"),
        (damage_empty, "no manifest"),
        (damage_missing, "'optimizer.pt' is missing"),
        (damage_size, "'optimizer.pt' is of another size: 5 bytes, not 50000 bytes"),
        (damage_byte, "'optimizer.pt' is altered"),
        (damage_manifest, "is not JSON"),
        (damage_step, "step 30, not of step 50"),
    ],
)
def test_the_newest_intact_one_is_taken_and_the_others_explained(place, damage, words):
    checkpoint(place, 20)
    checkpoint(place, 40)
    damage(place)
    skipped = []
    found = latest(place.store, on_skip=lambda name, why: skipped.append((name, why)))
    assert found.step == 40
    ((name, why),) = skipped
    assert name == "checkpoint-50"
    assert words in why


def test_a_new_etag_over_the_same_bytes_is_still_intact(moto):
    name = checkpoint(moto)
    data = FILES["optimizer.pt"]
    moto.upload_parts(f"{name}/optimizer.pt", [data])
    assert latest(moto.store).step == 30


@pytest.mark.fault(22)
def test_directory_markers_are_no_checkpoint(moto):
    checkpoint(moto, 40)
    moto.put("checkpoint-50/", b"")
    moto.put("checkpoint-50/x/", b"")
    assert latest(moto.store).step == 40


def test_remove_takes_the_manifest_first(each_place):
    place = each_place
    checkpoint(place, 1)
    checkpoint(place, 10)
    if place.kind == "moto":
        place.put("checkpoint-1/", b"")
    count = []
    place.store.client().meta.events.register(
        "before-call.s3.DeleteObjects", lambda params, **_: count.append(params["body"])
    )
    remove(place.store, "checkpoint-1")
    assert MANIFEST_NAME.encode() in count[0]
    assert count[0].count(b"<Key>") == 1
    assert MANIFEST_NAME.encode() not in b"".join(count[1:])
    assert not [path for path in sorted(place.keys()) if path.startswith("checkpoint-1/")]
    assert verify(place.store, "checkpoint-10").ok
    remove(place.store, "checkpoint-1")


def test_remove_of_a_name_that_is_no_checkpoint(place):
    place.put("runs/events", b"x")
    for name in ("", "runs", "checkpoint-", "checkpoint-1/../runs"):
        with pytest.raises(UsageError):
            remove(place.store, name)
    assert place.keys() == {"runs/events"}
