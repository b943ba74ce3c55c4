"""Every rung of the ladder, on a store that offers it; and every way an object can be wrong."""

from __future__ import annotations

import os

import pytest

from mountkit.checkpoints.attestation import attest_object
from mountkit.store import checksums
from mountkit.store.base import Attestation, Checksum
from mountkit.store.checksums import FileDigest
from support.stores import PART, Answer, until


@pytest.fixture
def local(tmp_path):
    """A file of three parts, and what it held when it was written."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(os.urandom(2 * PART + 1234))
    return path


def parts_of(path, size=PART):
    data = path.read_bytes()
    return [data[start : start + size] for start in range(0, len(data), size)]


def attest_unread(store, *args):
    """Attest a file, and fail if the object's bytes are asked for."""

    def refuse(**_):
        raise AssertionError("an object was read though the store's word settles it")

    events = store.client().meta.events
    events.register("before-call.s3.GetObject", refuse)
    try:
        return attest_object(store, *args)
    finally:
        events.unregister("before-call.s3.GetObject", refuse)


@pytest.mark.fault(3)
@pytest.mark.parametrize(
    ("algorithm", "rung"),
    [
        ("CRC64NVME", "crc64nvme"),
        ("CRC32C", "crc32c"),
        ("CRC32", "crc32"),
        ("SHA256", "sha256"),
        ("SHA1", "sha1"),
    ],
)
def test_full_object_checksums(moto, local, algorithm, rung):
    moto.put("f", local.read_bytes(), ChecksumAlgorithm=algorithm)
    verdict = attest_unread(moto.store, "f", checksums.digest_file(local), local)
    assert (verdict.ok, verdict.attested_by) == (True, rung)
    assert verdict.etag

    flipped = bytearray(local.read_bytes())
    flipped[PART] ^= 1
    moto.put("f", bytes(flipped), ChecksumAlgorithm=algorithm)
    verdict = attest_object(moto.store, "f", checksums.digest_file(local), local)
    assert (verdict.problem, verdict.attested_by) == ("altered", rung)
    assert verdict.expected != verdict.found


def test_a_full_object_crc64nvme_of_several_parts_needs_no_local_copy(moto, local):
    moto.upload_parts("f", parts_of(local), "CRC64NVME", ChecksumType="FULL_OBJECT")
    verdict = attest_unread(moto.store, "f", checksums.digest_file(local))
    assert (verdict.ok, verdict.attested_by) == (True, "crc64nvme")


@pytest.mark.parametrize(
    ("algorithm", "rung"),
    [
        ("CRC32", "crc32-composite"),
        ("SHA256", "sha256-composite"),
        ("SHA1", "sha1-composite"),
    ],
)
def test_composite_checksums(moto, local, algorithm, rung):
    moto.upload_parts("f", parts_of(local), algorithm, ChecksumType="COMPOSITE")
    seen = moto.store.stat("f")
    assert {checksum.scope for checksum in seen.checksums} == {"parts", "tag"}
    verdict = attest_unread(moto.store, "f", checksums.digest_file(local), local)
    assert (verdict.ok, verdict.attested_by) == (True, rung)

    flipped = parts_of(local)
    flipped[1] = bytes([flipped[1][0] ^ 1]) + flipped[1][1:]
    moto.upload_parts("g", flipped, algorithm, ChecksumType="COMPOSITE")
    verdict = attest_object(moto.store, "g", checksums.digest_file(local), local)
    assert (verdict.problem, verdict.attested_by) == ("altered", "read-back")


def test_composite_crc32c_as_s3_writes_it(scripted, scripted_store, local):
    # moto's own CRC32C of parts is a CRC32 where an optional library is missing.
    raw = [checksums.digest_bytes(part, ("crc32c",)).values["crc32c"] for part in parts_of(local)]
    joined = b"".join(checksums.decode(value, "crc32c") for value in raw)
    value = checksums.digest_bytes(joined, ("crc32c",)).values["crc32c"]

    def script(_method, path, _headers):
        size = PART if "partNumber=1" in path else local.stat().st_size
        return Answer(
            200,
            headers={
                "Content-Length": str(size),
                "ETag": '"whatever-3"',
                "x-amz-checksum-crc32c": f"{value}-3",
                "x-amz-checksum-type": "COMPOSITE",
                "x-amz-mp-parts-count": "3",
            },
        )

    scripted.script = script
    verdict = attest_object(scripted_store, "f", checksums.digest_file(local), local)
    assert (verdict.ok, verdict.attested_by) == (True, "crc32c-composite")
    assert {method for method, _ in scripted.requests} == {"HEAD"}


def test_md5_of_a_single_part(place, local):
    place.put("f", local.read_bytes())
    verdict = attest_unread(place.store, "f", checksums.digest_file(local), local)
    assert (verdict.ok, verdict.attested_by) == (True, "md5")


def test_md5_taken_while_writing_saves_reading_the_file_again(rclone, local):
    rclone.put("f", local.read_bytes())
    reference = checksums.digest_file(local, ("crc64nvme", "md5"))
    local.unlink()
    verdict = attest_unread(rclone.store, "f", reference)
    assert (verdict.ok, verdict.attested_by) == (True, "md5")


def test_composite_etag(moto, local):
    moto.upload_parts("f", parts_of(local))
    verdict = attest_unread(moto.store, "f", checksums.digest_file(local), local)
    assert (verdict.ok, verdict.attested_by) == (True, "md5-composite")


def test_a_multipart_upload_to_a_store_whose_etag_is_still_the_whole_md5(rclone, local):
    rclone.upload_parts("f", parts_of(local))
    verdict = attest_unread(rclone.store, "f", checksums.digest_file(local), local)
    assert (verdict.ok, verdict.attested_by) == (True, "md5")


def test_uneven_parts_are_read_back_and_not_called_altered(moto, local):
    data = local.read_bytes()
    # The first part's size and the number of parts fit, and yet the parts are others.
    uneven = [data[:PART], data[PART : 2 * PART + 7], data[2 * PART + 7 :]]
    for algorithm, path in (("", "etag"), ("SHA256", "composite")):
        how = {"ChecksumType": "COMPOSITE"} if algorithm else {}
        moto.upload_parts(path, uneven, algorithm, **how)
        verdict = attest_object(moto.store, path, checksums.digest_file(local), local)
        assert (verdict.ok, verdict.attested_by) == (True, "read-back")


def test_without_a_local_copy_the_bytes_are_read_back(place, local):
    place.put("f", local.read_bytes())
    verdict = attest_object(place.store, "f", checksums.digest_file(local))
    assert (verdict.ok, verdict.attested_by) == (True, "read-back")


def test_a_local_copy_that_is_gone_is_no_failure(place, local):
    place.put("f", local.read_bytes())
    reference = checksums.digest_file(local)
    local.unlink()
    verdict = attest_object(place.store, "f", reference, local)
    assert (verdict.ok, verdict.attested_by) == (True, "read-back")


@pytest.mark.parametrize("algorithm", ["", "SHA256"])
def test_a_local_copy_that_rotted_with_the_object_proves_nothing(moto, local, algorithm):
    reference = checksums.digest_file(local)
    rotten = bytearray(local.read_bytes())
    rotten[0] ^= 1
    local.write_bytes(rotten)
    how = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    moto.put("f", bytes(rotten), **how)
    verdict = attest_object(moto.store, "f", reference, local)
    assert (verdict.problem, verdict.attested_by) == ("altered", "read-back")


@pytest.mark.parametrize("encryption", ["aws:kms", "aws:kms:dsse"])
def test_the_etag_of_an_encrypted_object_is_no_md5(scripted, scripted_store, tmp_path, encryption):
    path = tmp_path / "f"
    path.write_bytes(b"abc")

    def script(method, _path, _headers):
        headers = {"ETag": '"00000000000000000000000000000000"'}
        if method == "HEAD":
            encrypted = {"x-amz-server-side-encryption": encryption}
            return Answer(200, b"abc", {**headers, **encrypted})
        return Answer(206, b"abc", {**headers, "Content-Range": "bytes 0-2/3"})

    scripted.script = script
    verdict = attest_object(scripted_store, "f", checksums.digest_file(path), path)
    assert (verdict.ok, verdict.attested_by) == (True, "read-back")


@pytest.mark.parametrize("etag", ["0" * 32, "0" * 32 + "-2", "not-an-md5", ""])
def test_an_etag_that_differs_is_no_verdict(scripted, scripted_store, tmp_path, etag):
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    ranged = {"ETag": f'"{etag}"', "Content-Range": "bytes 0-2/3"}
    scripted.script = lambda method, path, headers: Answer(
        200 if "Range" not in headers else 206, b"abc", ranged
    )
    verdict = attest_object(scripted_store, "f", checksums.digest_file(path), path)
    assert (verdict.ok, verdict.attested_by) == (True, "read-back")


def test_what_the_store_said_before_is_not_asked_again(scripted, scripted_store):
    crc = checksums.digest_bytes(b"abc").values["crc64nvme"]
    seen = Attestation(3, "e", (Checksum("crc64nvme", crc),))
    reference = FileDigest(3, {"crc64nvme": crc})
    assert attest_object(scripted_store, "f", reference, attestation=seen).ok
    assert scripted.requests == []


@pytest.mark.fault(32)
def test_one_byte_flipped_on_the_disk_of_the_store(rclone, local):
    rclone.put("f", local.read_bytes())
    before = rclone.store.stat("f").tag
    with (rclone.disk / "f").open("r+b") as stream:
        stream.write(bytes([local.read_bytes()[0] ^ 1]))
    until(lambda: rclone.store.stat("f").tag != before)
    verdict = attest_object(rclone.store, "f", checksums.digest_file(local), local)
    assert (verdict.problem, verdict.attested_by) == ("altered", "read-back")


def test_an_object_that_goes_while_it_is_read(scripted, scripted_store):
    def script(method, _path, _headers):
        if method == "HEAD":
            return Answer(200, b"abc", {"ETag": '"e"'})
        return Answer.error(404, "NoSuchKey")

    scripted.script = script
    verdict = attest_object(scripted_store, "f", checksums.digest_bytes(b"abc"))
    assert verdict.problem == "missing"
