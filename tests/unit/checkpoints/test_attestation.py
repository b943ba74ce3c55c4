"""Which of a store's checksums are compared, and which only repeat what its client said."""

from __future__ import annotations

import hashlib

import pytest

from mountkit.checkpoints.attestation import attest_object, ladder
from mountkit.spec import Source
from mountkit.store.base import Attestation, Checksum
from mountkit.store.checksums import digest_bytes
from support.fakes import Bucket, FakeStore

DATA, TORN = b"the bytes as written", b"the bytes as WRITTEN"
ALL = ("crc64nvme", "crc32c", "md5")


class Told(FakeStore):
    """A store that says just what a test has it say."""

    def __init__(self, holds: bytes, *told: Checksum) -> None:
        self.bucket = Bucket({"run/f": holds})
        super().__init__(self.bucket, Source("s3", "b", "run"))
        self._told = told

    def stat(self, path):
        return Attestation(len(DATA), "a-tag", self._told)


def value(algorithm, data=DATA):
    return digest_bytes(data, (algorithm,)).values[algorithm]


def judged(store):
    return attest_object(store, "f", digest_bytes(DATA, ALL))


@pytest.mark.parametrize("algorithm", ALL)
def test_what_the_client_said_proves_nothing(algorithm):
    said = Checksum(algorithm, value(algorithm), by="client")
    verdict = judged(Told(TORN, said))
    assert (verdict.problem, verdict.attested_by) == ("altered", "read-back")
    assert Attestation(1, "", (said,)).whole(algorithm) == ""


@pytest.mark.parametrize("algorithm", ALL)
def test_nor_does_it_refute(algorithm):
    verdict = judged(Told(DATA, Checksum(algorithm, value(algorithm, TORN), by="client")))
    assert (verdict.ok, verdict.attested_by) == (True, "read-back")


@pytest.mark.parametrize("algorithm", ALL)
def test_one_of_all_bytes_settles_it_either_way(algorithm):
    for data, problem in ((DATA, None), (TORN, "altered")):
        store = Told(DATA, Checksum(algorithm, value(algorithm, data)))
        verdict = judged(store)
        assert (verdict.problem, verdict.attested_by) == (problem, algorithm)
        assert store.bucket.asked("read") == []


def test_a_tag_proves_and_never_refutes():
    of = {data: hashlib.md5(data).hexdigest() for data in (DATA, TORN)}
    assert judged(Told(TORN, Checksum("md5", of[DATA], "tag"))).attested_by == "md5"
    verdict = judged(Told(DATA, Checksum("md5", of[TORN], "tag")))
    assert (verdict.ok, verdict.attested_by) == (True, "read-back")


def test_one_of_parts_that_nobody_can_tell_is_passed_over():
    verdict = judged(Told(DATA, Checksum("crc32c", value("crc32c"), "parts")))
    assert (verdict.ok, verdict.attested_by) == (True, "read-back")


def test_the_strongest_comes_first():
    told = (
        Checksum("md5", "x", "tag"),
        Checksum("crc32c", "x", "parts"),
        Checksum("md5", "x"),
        Checksum("crc64nvme", "x", by="client"),
        Checksum("sha256", "x"),
        Checksum("crc64nvme", "x"),
    )
    found = [(rung.algorithm, rung.scope) for rung in ladder(Attestation(1, "", told))]
    assert found == [
        ("crc64nvme", "object"),
        ("sha256", "object"),
        ("md5", "object"),
        ("crc32c", "parts"),
        ("md5", "tag"),
    ]
