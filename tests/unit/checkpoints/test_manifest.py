"""The manifest: what goes in comes out, and what must not be trusted is refused."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.checkpoints.manifest import FileEntry, Manifest, check_path
from mountkit.errors import VerificationError
from mountkit.names import MANIFEST_NAME, step_of
from mountkit.store import checksums

CRC = "r4sUhgp5mIg="
NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)

segments = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda text: text not in {".", "..", MANIFEST_NAME})
paths = st.lists(segments, min_size=1, max_size=4).map("/".join)
crcs = st.binary(min_size=8, max_size=8).map(checksums.encode)
entries = st.builds(
    FileEntry,
    path=paths,
    size=st.integers(0, 2**63),
    crc64nvme=crcs,
    reference=st.sampled_from(["write", "mount"]),
    attested_by=st.sampled_from(["crc64nvme", "md5-composite", "read-back"]),
    etag=st.text("0123456789abcdef-", max_size=40),
)
manifests = st.builds(
    Manifest,
    step=st.integers(0, 10**9),
    created=st.datetimes(timezones=st.just(UTC)),
    source=st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    saved=st.none() | st.datetimes(max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),
    files=st.lists(entries, min_size=1, max_size=6, unique_by=lambda entry: entry.path).map(tuple),
)


def entry(path: str = "a", size: int = 1, crc: str = CRC) -> FileEntry:
    return FileEntry(path, size, crc, "write", "crc64nvme", "e")


def document(**changes: object) -> bytes:
    whole = json.loads(Manifest(30, NOW, "s3://b/r", (entry(),)).to_bytes())
    whole.update(changes)
    return json.dumps({key: value for key, value in whole.items() if value is not ...}).encode()


@given(manifests)
def test_round_trip(manifest):
    data = manifest.to_bytes()
    again = Manifest.from_bytes(data)
    assert again == manifest
    assert again.to_bytes() == data


@given(manifests)
def test_files_are_sorted_whatever_the_order(manifest):
    found = [item["path"] for item in json.loads(manifest.to_bytes())["files"]]
    assert found == sorted(found)
    backwards = replace(manifest, files=manifest.files[::-1])
    assert backwards == manifest


def test_the_format_is_the_documented_one():
    found = json.loads(Manifest(30, NOW, "s3://b/r", (entry(),)).to_bytes())
    assert found == {
        "format": 1,
        "step": 30,
        "created": "2025-01-02T03:04:05+00:00",
        "source": "s3://b/r",
        "files": [
            {
                "path": "a",
                "size": 1,
                "crc64nvme": CRC,
                "reference": "write",
                "attested_by": "crc64nvme",
                "etag": "e",
            }
        ],
    }


def test_when_it_was_saved_is_told_where_it_is_known():
    found = Manifest(30, NOW, "s3://b/r", (entry(),), saved=NOW + timedelta(seconds=1)).to_bytes()
    assert json.loads(found)["saved"] == "2025-01-02T03:04:06+00:00"
    assert Manifest.from_bytes(document()).saved is None
    assert Manifest.from_bytes(document(saved=5)).saved is None


def test_keys_from_later_versions_are_passed_over():
    later = {**json.loads(document())["files"][0], "colour": "blue"}
    later.pop("etag")
    manifest = Manifest.from_bytes(document(files=[later], mood="good"))
    assert manifest.files == (FileEntry("a", 1, CRC, "write", "crc64nvme", ""),)


def test_times_of_other_writers():
    assert Manifest.from_bytes(document(created="2025-01-02T03:04:05Z")).created == NOW
    there = Manifest.from_bytes(document(created="2025-01-02T05:04:05+02:00")).created
    assert there.utcoffset() == timedelta(hours=2)
    assert there == NOW


BAD_PATHS = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../x",
    "a/../b",
    "a/..",
    "./a",
    "a/./b",
    "a//b",
    "a/",
    "nul\0",
    "surrogate\udcff",
    MANIFEST_NAME,
]


@pytest.mark.fault(39)
@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_that_are_refused(path):
    with pytest.raises(VerificationError) as refused:
        check_path(path)
    assert refused.value.exit_code == 74
    with pytest.raises(VerificationError):
        Manifest(1, NOW, "s3://b", (entry(path),))
    raw = {**json.loads(document())["files"][0], "path": path}
    with pytest.raises(VerificationError):
        Manifest.from_bytes(document(files=[raw]))


@pytest.mark.fault(39)
@pytest.mark.parametrize(
    "path", ["...", "a b", "new\nline", "ü/検", "back\\slash", f"d/{MANIFEST_NAME}"]
)
def test_paths_that_are_strange_and_fine(path):
    check_path(path)
    manifest = Manifest(1, NOW, "s3://b", (entry(path),))
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


GOOD = json.loads(Manifest(30, NOW, "s3://b/r", (entry(),)).to_bytes())["files"][0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{",
        b"[" * 100_000,
        document(format=2),
        document(format=...),
        document(format=True),
        document(format="1"),
        document(step=...),
        document(step="30"),
        document(step=-1),
        document(step=True),
        document(step=1.5),
        document(created="yesterday"),
        document(created="2025-01-02T03:04:05"),
        document(created=5),
        document(saved="yesterday"),
        document(saved="2025-01-02T03:04:05"),
        document(saved="9999-12-31T23:59:59Z"),
        document(source=None),
        document(files=...),
        document(files={}),
        document(files=["a"]),
        document(files=[{}]),
        document(files=[GOOD, GOOD]),
        document(files=[{**GOOD, "size": -1}]),
        document(files=[{**GOOD, "size": "1"}]),
        document(files=[{**GOOD, "size": True}]),
        document(files=[{**GOOD, "crc64nvme": "AAAA"}]),
        document(files=[{**GOOD, "crc64nvme": "not base64!!"}]),
        document(files=[{**GOOD, "crc64nvme": None}]),
        document(files=[{**GOOD, "attested_by": 3}]),
    ],
)
def test_what_is_no_manifest_is_refused_and_named(data):
    with pytest.raises(VerificationError, match="s3://b/m") as refused:
        Manifest.from_bytes(data, where="s3://b/m")
    assert refused.value.exit_code == 74
    assert refused.value.hint


@given(st.binary(max_size=200))
def test_no_bytes_make_it_crash(data):
    with contextlib.suppress(VerificationError):
        Manifest.from_bytes(data)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoint-0", 0),
        ("checkpoint-30", 30),
        ("checkpoint-", None),
        ("checkpoint-3x", None),
        ("checkpoint--3", None),
        ("checkpoint-3\n", None),
        ("checkpoint-٣", None),
        ("xcheckpoint-3", None),
        ("tmp-checkpoint-3", None),
    ],
)
def test_step_of(name, step):
    assert step_of(name) == step


@pytest.mark.fault(36)
class TestTheEpochOfItsWriter:
    def test_it_is_told_where_there_is_one(self):
        manifest = Manifest(30, NOW, "s3://b/r", (entry(),), epoch=4, run="s3://b")
        told = json.loads(manifest.to_bytes())
        assert (told["format"], told["epoch"], told["run"]) == (1, 4, "s3://b")
        assert Manifest.from_bytes(manifest.to_bytes()) == manifest
        without = json.loads(replace(manifest, epoch=None, run="").to_bytes())
        assert not {"epoch", "run"} & without.keys()

    @pytest.mark.parametrize("epoch", ["4", 4.0, True, -1, [], {}])
    def test_one_that_makes_no_sense_is_refused(self, epoch):
        with pytest.raises(VerificationError):
            Manifest.from_bytes(document(epoch=epoch, run="s3://b"))

    @pytest.mark.parametrize("run", [None, 3, ["s3://b"], ...])
    def test_without_a_run_it_belongs_to_none(self, run):
        assert Manifest.from_bytes(document(epoch=4, run=run)).run == ""
