"""How S3 is asked: pages, batches, parts, and what breaks off."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from mountkit.errors import MountUnavailableError, PermissionDeniedError
from mountkit.spec import Source, StoreOptions
from mountkit.store import checksums
from mountkit.store.base import ObjectChangedError
from mountkit.store.s3.store import S3Store
from support.stores import EMPTY_LIST, PART, REGION, Answer, until

MIB = 1024 * 1024


def test_directory_markers_are_passed_over(moto):
    moto.put("checkpoint-1/", b"")
    moto.put("checkpoint-1/a", b"x")
    assert [item.path for item in moto.store.list()] == ["checkpoint-1/a"]
    assert moto.keys() == {"checkpoint-1/", "checkpoint-1/a"}


def breaking(data, *, etag=lambda number: "e", ranges=True, each=300):
    """A script that breaks every answer off after ``each`` bytes, except the last."""
    count = []

    def script(_method, _path, headers):
        count.append(headers.get("Range", ""))
        asked = headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if ranges else 0
        rest = data[start:]
        named = {"ETag": f'"{etag(len(count))}"'}
        if start:
            named["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return Answer(206 if start else 200, rest[:each], named, length=len(rest))

    return script, count


@pytest.mark.fault(33)
def test_a_body_that_breaks_off_is_taken_up_where_it_broke(scripted, scripted_store):
    data = os.urandom(1000)
    scripted.script, asked = breaking(data)
    assert b"".join(scripted_store.chunks("data", chunk_bytes=250)) == data
    assert asked == ["", "bytes=300-", "bytes=600-", "bytes=900-"]


def test_a_body_that_never_goes_on_is_an_error(scripted, scripted_store):
    data = os.urandom(1000)
    scripted.script, asked = breaking(data, each=0)
    with pytest.raises(MountUnavailableError, match="s3://bucket/run/data"):
        list(scripted_store.chunks("data"))
    assert len(asked) == 4


def test_an_object_replaced_before_it_was_taken_up(scripted, scripted_store):
    scripted.script, _ = breaking(os.urandom(1000), etag=str)
    with pytest.raises(ObjectChangedError, match="s3://bucket/run/data"):
        list(scripted_store.chunks("data"))


def test_a_store_that_ignores_ranges_is_not_read_twice_over(scripted, scripted_store):
    scripted.script, _ = breaking(os.urandom(1000), ranges=False)
    with pytest.raises(MountUnavailableError, match="ranges"):
        list(scripted_store.chunks("data"))


def test_reading_back_is_one_request(rclone):
    rclone.put("data", os.urandom(100_000))
    count = []
    rclone.store.client().meta.events.register("request-created.s3", lambda **_: count.append(1))
    assert sum(map(len, rclone.store.chunks("data", chunk_bytes=1000))) == 100_000
    assert len(count) == 1


@pytest.mark.fault(33)
def test_a_store_that_is_busy_for_a_moment_is_asked_again(scripted, scripted_store):
    answers = [Answer.error(503, "SlowDown"), Answer.error(500, "InternalError"), EMPTY_LIST]
    scripted.script = lambda *_: answers.pop(0)
    assert list(scripted_store.list()) == []
    assert len(scripted.requests) == 3


def test_delete_names_the_object_the_store_refuses(scripted, scripted_store):
    body = (
        b"<?xml version='1.0'?><DeleteResult><Error><Key>run/b</Key><Code>AccessDenied</Code>"
        b"<Message>no</Message></Error></DeleteResult>"
    )
    scripted.script = lambda *_: Answer(200, body, {"Content-Type": "application/xml"})
    with pytest.raises(PermissionDeniedError, match="s3://bucket/run/b") as refused:
        scripted_store.delete(["a", "b"])
    assert "s3:DeleteObject" in refused.value.hint


def test_a_store_without_batched_deletion(scripted, scripted_store):
    scripted.script = lambda method, *_: (
        Answer.error(501, "NotImplemented") if method == "POST" else Answer(204)
    )
    scripted_store.delete(["a", "b"])
    assert [path for method, path in scripted.requests if method == "DELETE"] == [
        "/bucket/run/a",
        "/bucket/run/b",
    ]


@pytest.mark.fault(39)
def test_thousands_of_objects(rclone):
    names = [f"checkpoint-1/shard {number:05}.bin" for number in range(2000)]
    (rclone.disk / "checkpoint-1").mkdir(parents=True)
    for name in names:
        (rclone.disk / name).write_bytes(name.encode())
    assert [item.path for item in rclone.store.list("checkpoint-1")] == names
    seen = rclone.store.stat_many(names[:200])
    assert [seen[name].size for name in names[:200]] == [len(name) for name in names[:200]]
    rclone.store.delete(names)
    assert list(rclone.store.list()) == []


def test_part_sizes(moto):
    sizes = (PART, PART, 1234)
    moto.upload_parts("uniform", [os.urandom(size) for size in sizes])
    seen = moto.store.stat("uniform")
    assert seen.parts == 3
    assert moto.store.part_sizes("uniform", seen) == sizes
    moto.put("single", b"abc")
    assert moto.store.part_sizes("single", moto.store.stat("single")) == (3,)


def test_part_sizes_that_the_store_cannot_say(moto):
    moto.upload_parts("uneven", [os.urandom(PART), os.urandom(PART + 7), os.urandom(PART)])
    assert moto.store.part_sizes("uneven", moto.store.stat("uneven")) is None


def test_part_sizes_as_the_store_lists_them(scripted, scripted_store):
    pages = {
        "0": ("true", 2, (3, 9)),
        "2": ("false", 3, (7,)),
    }

    def script(method, path, headers):
        if method == "HEAD":
            return Answer(206, headers={"Content-Length": "3", "x-amz-mp-parts-count": "3"})
        more, last, sizes = pages[headers.get("x-amz-part-number-marker", "0")]
        parts = "".join(f"<Part><Size>{size}</Size></Part>" for size in sizes)
        return Answer(
            200,
            f"<GetObjectAttributesResponse><ObjectParts><IsTruncated>{more}</IsTruncated>"
            f"<NextPartNumberMarker>{last}</NextPartNumberMarker>{parts}</ObjectParts>"
            "</GetObjectAttributesResponse>".encode(),
            {"Content-Type": "application/xml"},
        )

    from mountkit.store.base import Attestation

    scripted.script = script
    seen = Attestation(19, "0" * 32 + "-3", parts=3)
    assert scripted_store.part_sizes("data", seen) == (3, 9, 7)
    assert scripted_store.part_sizes("data", Attestation(20, "0" * 32 + "-3", parts=3)) is None


def test_put_is_refused_if_damaged_on_the_way(scripted, scripted_store):
    sent = {}
    scripted.script = lambda method, path, headers: sent.update(headers) or Answer()
    scripted_store.put("a", b"abc")
    assert sent["Content-MD5"] == "kAFQmDzST7DWlj99KOF/cg=="


def test_a_listing_costs_one_request_per_thousand(moto):
    for number in range(3):
        moto.put(f"f{number}", b"x")
    count = []
    moto.store.client().meta.events.register("request-created.s3", lambda **_: count.append(1))
    list(moto.store.list())
    moto.store.stat_many([f"f{number}" for number in range(3)])
    assert len(count) == 4


def test_memory_of_a_read_back_is_constant(rclone):
    size = 64 * MIB
    rclone.put("small", b"x")
    with (rclone.disk / "big").open("wb") as stream:
        stream.truncate(size)
    until(lambda: rclone.store.stat("big"))
    list(rclone.store.chunks("small"))
    tracemalloc.start()
    total, _ = checksums.crc64nvme_chunks(rclone.store.chunks("big", chunk_bytes=MIB))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == size
    assert peak < 6 * MIB


def test_repr_holds_no_settings():
    store = S3Store(Source("s3", "b", "p"), StoreOptions("http://h", REGION, "someone"))
    assert repr(store) == "S3Store('s3://b/p')"
