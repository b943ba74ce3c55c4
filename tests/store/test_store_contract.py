"""What every store has to do: each that there is a server for, and the one of the unit tests."""

from __future__ import annotations

import os
import socket
from datetime import UTC

import pytest

from mountkit.checkpoints.attestation import READ_BACK, attest_object, ladder
from mountkit.errors import ConfigurationError, MountUnavailableError, VerificationError
from mountkit.spec import Source
from mountkit.store import checksums
from mountkit.store.base import ObjectMissingError, UnsupportedConditionError
from support.fakes import Bucket, FakeStore
from support.stores import PART, SERVERS, Place

STRANGE = [
    "with space.txt",
    "new\nline",
    "tab\there",
    "ünïcödé 検査 🚀",
    "percent%2Fplus+and&amp;",
    "quote\"'<>",
    "deep/er/and/deeper",
    "x" * 200,
]
# moto's own routing knows no key with a newline in it, and wsgidav decodes a name twice. `rclone
# serve s3` knows control characters until it reads its directory anew, which it does now and then.
UNKNOWN = {"moto": "\n", "dav": "%", "rclone": "\n\t"}
#: Where an object has no tag, for nothing says in general that it was written again.
UNTAGGED = {"nas", "dav", "disk"}
#: In a store of files there cannot be a directory of the same name.
FILES = {"rclone", "versitygw", "nas", "dav", "hdfs", "disk"}


class Memory(Place):
    """A place in the store of the unit tests."""

    def __init__(self) -> None:
        self.bucket = Bucket()
        super().__init__("memory", FakeStore(self.bucket, Source("s3", "b", "run 1")), None)
        self.prefix = "run 1"

    def put(self, path, data, **how):
        self.bucket.objects[self.store.source.key(path)] = data

    def upload_parts(self, path, parts, algorithm="", **how):
        self.put(path, b"".join(parts))

    def at(self, source, **options):
        return FakeStore(self.bucket, source)


@pytest.fixture(params=[*SERVERS, "memory"])
def place(request, place_on) -> Place:
    return Memory() if request.param == "memory" else place_on(request.param)


@pytest.fixture(params=[kind for kind in SERVERS if kind != "disk"])
def served(request, place_on) -> Place:
    """Where there is a server to refuse, or to go away."""
    return place_on(request.param)


@pytest.fixture(params=[kind for kind in SERVERS if kind not in {"hdfs", "disk"}])
def with_buckets(request, place_on) -> Place:
    """Where one of many buckets may be missing: a whole file system is there or not."""
    return place_on(request.param)


@pytest.fixture
def local(tmp_path):
    """A file of two parts."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(os.urandom(PART + 1234))
    return path


def paths(listed):
    return [item.path for item in listed]


class TestLooking:
    def test_a_listing_tells_size_tag_and_time(self, place):
        place.put("checkpoint-1/a", b"abc")
        (found,) = place.store.list()
        assert (found.path, found.size) == ("checkpoint-1/a", 3)
        assert bool(found.tag) is (place.kind not in UNTAGGED)
        assert found.tag == place.store.stat("checkpoint-1/a").tag
        assert found.modified.tzinfo is not None
        assert found.modified.astimezone(UTC).year >= 2024

    def test_it_is_sorted_by_key(self, place):
        names = ["a/b", "a-b", "é", "b", "Z"]
        for name in names:
            place.put(name, b"x")
        assert paths(place.store.list()) == sorted(names)

    def test_a_directory_is_not_a_string_prefix(self, place):
        for path in ("checkpoint-1/a", "checkpoint-10/a", "checkpoint-1x"):
            place.put(path, b"x")
        for asked in ("checkpoint-1", "checkpoint-1/"):
            assert paths(place.store.list(asked)) == ["checkpoint-1/a"]
        assert place.store.directories() == ("checkpoint-1", "checkpoint-10")
        below = place.at(place.store.source.child("checkpoint-1"))
        assert paths(below.list()) == ["a"]
        assert below.directories() == ()

    def test_the_whole_bucket_is_a_source_too(self, place):
        place.put("a", b"x")
        source = place.store.source
        # Of a directory of this machine that is the one around it.
        around = source.prefix.removesuffix(place.prefix).rstrip("/")
        whole = place.at(Source(source.scheme, source.bucket, around))
        assert f"{place.prefix}/a" in paths(whole.list())
        assert place.prefix in whole.directories()
        assert whole.stat(f"{place.prefix}/a").size == 1
        assert whole.url(f"{place.prefix}/a") == place.store.url("a")
        assert whole.check(write=False).url == whole.url("")

    def test_what_is_not_there(self, place):
        store = place.store
        assert list(store.list("nothing")) == []
        assert store.directories("nothing") == ()
        assert store.stat("nothing") is None
        assert store.get("nothing") is None
        store.delete(["nothing"])
        with pytest.raises(ObjectMissingError, match="nothing"):
            list(store.chunks("nothing"))

    def test_many_at_a_time(self, place):
        place.put("a", b"1")
        place.put("b", b"22")
        seen = place.store.stat_many(["a", "b", "none"])
        assert (seen["a"].size, seen["b"].size, seen["none"]) == (1, 2, None)

    @pytest.mark.fault(39)
    def test_strange_names_survive_every_request(self, place):
        names = [name for name in STRANGE if not {*name} & {*UNKNOWN.get(place.kind, "")}]
        for name in names:
            place.store.put(name, name.encode())
        assert set(paths(place.store.list())) == set(names)
        for name in names:
            assert place.store.get(name) == name.encode()
            assert place.store.stat(name).size == len(name.encode())
            assert b"".join(place.store.chunks(name)) == name.encode()
        place.store.delete(names)
        assert list(place.store.list()) == []


class TestReadingAndWriting:
    def test_get_has_a_limit(self, place):
        place.put("big", b"x" * 11)
        assert place.store.get("big", limit=11) == b"x" * 11
        with pytest.raises(VerificationError, match="big"):
            place.store.get("big", limit=10)

    def test_chunks_give_every_byte_once(self, place):
        for size in (0, 1, 999, 1000, 1001, 5000):
            data = os.urandom(size)
            place.put("data", data)
            chunks = list(place.store.chunks("data", chunk_bytes=1000))
            assert b"".join(chunks) == data
            assert all(len(chunk) <= 1000 for chunk in chunks)
        reading = place.store.chunks("data", chunk_bytes=1000)
        next(reading)
        # Left early, nothing stays open; and the store answers on.
        reading.close()
        assert place.store.get("data") == data

    def test_put_replaces_what_is_there(self, place):
        place.store.put("a", b"old and longer")
        before = place.store.stat("a")
        place.store.put("a", b"new")
        assert place.store.get("a") == b"new"
        assert (place.store.stat("a").tag != before.tag) is (place.kind not in UNTAGGED)
        assert paths(place.store.list()) == ["a"]

    def test_put_replaces_what_has_the_same_size_within_the_same_second(self, place):
        for number in range(6):
            data = b"writer %d" % number
            place.store.put("deep/f", data)
            assert place.store.get("deep/f") == data
        assert [info.path for info in place.store.list()] == ["deep/f"]

    def test_delete_takes_what_it_was_told_and_nothing_else(self, place):
        for path in ("a", "a/b", "ab"):
            if path != "a/b" or place.kind not in FILES:
                place.put(path, b"x")
        place.store.delete(["a", "none"])
        assert "a" not in paths(place.store.list())
        assert "ab" in paths(place.store.list())
        place.store.delete([])

    def test_an_upload_that_broke_off_is_dropped_and_the_others_stay(self, served):
        served.put("a", b"x")
        served.begin_upload("b")
        served.store.abort_uploads()
        assert served.uploads() == []
        assert paths(served.store.list()) == ["a"]
        served.store.abort_uploads()


class TestProof:
    def test_each_checksum_is_of_the_bytes(self, place, local):
        place.put("f", local.read_bytes())
        seen = place.store.stat("f")
        assert seen.size == local.stat().st_size
        told = ladder(seen)
        for checksum in told:
            digest = checksums.digest_file(local, (checksum.algorithm,))
            expected = digest.values[checksum.algorithm]
            if checksum.scope == "object":
                assert checksum.value == expected
                assert seen.whole(checksum.algorithm) == expected
            elif checksum.scope == "tag":
                assert checksum.value == seen.tag == checksums.hex_of(expected)
        verdict = attest_object(place.store, "f", checksums.digest_file(local), local)
        assert verdict.ok
        by = told[0].algorithm if told else READ_BACK
        parts = bool(told) and told[0].scope == "parts"
        assert verdict.attested_by == (checksums.composite_name(by) if parts else by)

    def test_of_an_object_in_parts_too(self, place, local):
        data = local.read_bytes()
        place.upload_parts("f", [data[:PART], data[PART:]])
        seen = place.store.stat("f")
        sizes = place.store.part_sizes("f", seen)
        assert sizes is None or sum(sizes) == len(data)
        assert seen.parts is None or sizes is None or len(sizes) == seen.parts
        for copy in (local, None):
            assert attest_object(place.store, "f", checksums.digest_file(local), copy).ok

    def test_an_empty_object_is_one(self, place, tmp_path):
        path = tmp_path / "empty"
        path.touch()
        place.put("f", b"")
        for copy in (path, None):
            assert attest_object(place.store, "f", checksums.digest_file(path), copy).ok

    def test_nothing_else_is_ever_proven(self, place, local):
        data, digest = local.read_bytes(), checksums.digest_file(local)
        wrong = {"missing": None, "size": data[:-1], "altered": data[:-1] + bytes([data[-1] ^ 1])}
        for problem, content in wrong.items():
            if content is not None:
                place.put("f", content)
            for copy in (local, None):
                verdict = attest_object(place.store, "f", digest, copy)
                assert (verdict.problem, verdict.ok) == (problem, False)


class TestChecking:
    def test_what_it_finds(self, place):
        facts = place.store.check()
        assert facts.url == place.store.source.url
        assert facts.written
        assert facts.dated is None or facts.dated.tzinfo is not None
        assert place.keys() == set(), "the check left something behind"

    def test_no_bucket_is_final(self, with_buckets):
        served = with_buckets
        source = Source(served.store.source.scheme, "there-is-no-such-bucket", "run")
        for ask in ("check", "directories"):
            with pytest.raises(ConfigurationError, match="there-is-no-such-bucket"):
                getattr(served.at(source), ask)()

    def test_a_store_out_of_reach_may_come_back(self, served):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
            with pytest.raises(MountUnavailableError, match="could not be reached"):
                served.at(served.store.source, endpoint_url=url).check()


#: Whether a store holds a write to its condition; which of the two a store is, it does not say.
#: HDFS only creates without overwriting. None where there is no such request, and it says so.
ENFORCES = {
    "moto": True,
    "versitygw": True,
    "az": True,
    "gs": True,
    "hdfs": True,
    "memory": True,
    "rclone": False,
    "nas": None,
    "dav": None,
    "disk": None,
}


@pytest.mark.fault(36)
class TestWritingUnderACondition:
    def test_an_object_as_it_is_read_has_its_tag_and_the_stores_time(self, place):
        place.store.put("a", b"abc")
        seen = place.store.read("a")
        assert (seen.data, seen.tag) == (b"abc", place.store.stat("a").tag)
        if ENFORCES[place.kind] is None:
            assert (seen.date, seen.modified.tzinfo is None) == (None, False)
            missing = place.store.read("none")
            assert (missing.data, missing.date) == (None, None)
            return
        assert abs((seen.date - seen.modified).total_seconds()) < 60
        missing = place.store.read("none")
        assert (missing.data, missing.tag, missing.modified) == (None, "", None)
        assert missing.date.tzinfo is not None
        with pytest.raises(VerificationError, match="big"):
            place.store.read("a", limit=2)

    def test_where_there_is_no_such_request_it_says_so(self, place):
        if ENFORCES[place.kind] is None:
            with pytest.raises(UnsupportedConditionError):
                place.store.put_if("a", b"one", tag=None)
            assert place.store.get("a") is None

    def test_what_holds_is_written_and_tells_the_new_tag(self, place):
        if ENFORCES[place.kind] is None:
            return
        made = place.store.put_if("a", b"one", tag=None)
        assert made.tag == place.store.read("a").tag
        assert made.date.tzinfo is not None
        if place.kind == "hdfs":
            with pytest.raises(UnsupportedConditionError, match="condition"):
                place.store.put_if("a", b"two", tag=made.tag)
            assert place.store.get("a") == b"one"
            return
        renewed = place.store.put_if("a", b"two", tag=made.tag)
        assert renewed.tag == place.store.read("a").tag != made.tag
        assert place.store.get("a") == b"two"

    def test_what_does_not_hold_is_refused_where_the_store_enforces_it(self, place):
        enforces = ENFORCES[place.kind]
        if enforces is None:
            return
        first = place.store.put_if("a", b"one", tag=None)
        tagged = () if place.kind == "hdfs" else (("0" * 32, "a"), (first.tag, "none"))
        for tag, path in ((None, "a"), *tagged):
            written = place.store.put_if(path, b"again", tag=tag)
            assert (written is None) == enforces, (tag, path)
            assert place.store.get(path) == ({"a": b"one"}.get(path) if enforces else b"again")

    def test_the_same_store_at_another_place(self, place):
        other = place.store.at(place.store.source.child("deeper"))
        other.put("a", b"1")
        assert place.store.get("deeper/a") == b"1"
        assert place.store.get("a") is None
