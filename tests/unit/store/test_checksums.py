"""Checksums against their published check values and against slow arithmetic."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.errors import TimeUpError, UsageError
from mountkit.store import checksums
from mountkit.timing import Deadline

CHECK = b"123456789"


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        # Check values of the catalogue of parametrised CRC algorithms.
        ("crc64nvme", "ae8b14860a799888"),
        ("crc32c", "e3069283"),
        ("crc32", "cbf43926"),
        ("md5", hashlib.md5(CHECK).hexdigest()),
        ("sha1", hashlib.sha1(CHECK).hexdigest()),
        ("sha256", hashlib.sha256(CHECK).hexdigest()),
    ],
)
def test_published_check_values(algorithm, expected):
    value = checksums.digest_bytes(CHECK, (algorithm,)).values[algorithm]
    assert checksums.hex_of(value) == expected
    assert checksums.decode(value, algorithm) == bytes.fromhex(expected)


def test_an_unknown_algorithm_is_named():
    with pytest.raises(UsageError, match="crc65"):
        checksums.Digester(["crc65"])


@pytest.mark.parametrize("value", ["", "!", "AAAA", "AAAAAAAAAAA", "é", "AAAAAAAAAAA=\n"])
def test_decode_refuses_what_is_no_crc64nvme(value):
    assert checksums.decode(value) is None


@given(st.binary(max_size=5000), st.integers(1, 700))
def test_one_pass_over_a_file_is_the_same_as_over_its_bytes(tmp_path_factory, data, chunk):
    path = tmp_path_factory.getbasetemp() / "one-pass"
    path.write_bytes(data)
    algorithms = sorted(checksums.ALGORITHMS)
    assert checksums.digest_file(path, algorithms, chunk) == checksums.digest_bytes(
        data, algorithms
    )
    pieces = (data[start : start + chunk] for start in range(0, len(data), chunk))
    size, value = checksums.crc64nvme_chunks(pieces)
    assert (size, value) == (len(data), checksums.digest_bytes(data).values["crc64nvme"])


@given(
    st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8),
    st.sampled_from(sorted(checksums.ALGORITHMS - {checksums.HDFS})),
    st.integers(1, 400),
)
def test_composites_are_checksums_of_the_parts_checksums(tmp_path_factory, parts, algorithm, chunk):
    path = tmp_path_factory.getbasetemp() / "parts"
    path.write_bytes(b"".join(parts))
    found = checksums.digest_file_parts(path, algorithm, [len(part) for part in parts], chunk)
    raw = [
        base64.b64decode(checksums.digest_bytes(part, (algorithm,)).values[algorithm])
        for part in parts
    ]
    joined = checksums.digest_bytes(b"".join(raw), (algorithm,)).values[algorithm]
    expected = joined
    if algorithm == "md5":
        expected = f"{base64.b64decode(joined).hex()}-{len(parts)}"
    assert found.values[f"{algorithm}-composite"] == expected
    assert found.size == path.stat().st_size
    assert found.values["crc64nvme"] == checksums.digest_file(path).values["crc64nvme"]


def test_a_composite_md5_as_s3_makes_it():
    parts = [b"a" * 5, b"b" * 3]
    digests = [hashlib.md5(part).digest() for part in parts]
    expected = hashlib.md5(b"".join(digests)).hexdigest() + "-2"
    assert checksums.composite_md5(digests) == expected


def test_bytes_past_the_parts_show(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"aaabbbXYZ")
    longer = checksums.digest_file_parts(path, "md5", (3, 3))
    path.write_bytes(b"aaabbb")
    exact = checksums.digest_file_parts(path, "md5", (3, 3))
    assert longer.values["md5-composite"] == exact.values["md5-composite"]
    assert longer.values["crc64nvme"] != exact.values["crc64nvme"]
    assert (longer.size, exact.size) == (9, 6)


@given(st.integers(1, 10**12), st.integers(1, 10**9))
def test_uniform_parts_add_up(size, first):
    count = -(-size // first)
    if count > 10_000:
        return
    sizes = checksums.uniform_parts(size, first, count)
    assert sizes is not None
    assert sum(sizes) == size
    assert len(sizes) == count
    assert all(part == first for part in sizes[:-1])
    assert checksums.uniform_parts(size, first, count + 1) is None


@pytest.mark.parametrize(
    ("size", "first", "count"), [(10, 5, 3), (10, 3, 3), (10, 0, 1), (10, 10, 0), (0, 5, 1)]
)
def test_parts_that_cannot_be_uniform(size, first, count):
    assert checksums.uniform_parts(size, first, count) is None


def test_memory_is_constant(tmp_path):
    import tracemalloc

    path = tmp_path / "big"
    with path.open("wb") as stream:
        stream.truncate(64 * 1024 * 1024)
    checksums.digest_file(path)
    tracemalloc.start()
    checksums.digest_file(path, ("crc64nvme", "sha1"), 1024 * 1024)
    checksums.digest_file_parts(path, "md5", (16 * 1024 * 1024,) * 4, 1024 * 1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        checksums.digest_file(tmp_path / "none")


@pytest.mark.parametrize(
    "take",
    [
        lambda path, deadline: checksums.digest_file(path, chunk_bytes=1, deadline=deadline),
        lambda path, deadline: checksums.digest_file_parts(path, "md5", (9,), 1, deadline),
    ],
    ids=["whole", "parts"],
)
def test_a_file_is_read_no_further_than_the_deadline(take, tmp_path):
    class Third(Deadline):
        looks = 0

        @property
        def passed(self) -> bool:
            self.looks += 1
            return self.looks >= 3

    (tmp_path / "x").write_bytes(CHECK)
    assert take(tmp_path / "x", Deadline()).size == 9
    deadline = Third()
    with pytest.raises(TimeUpError):
        take(tmp_path / "x", deadline)
    assert deadline.looks == 3


def hdfs_slowly(blocks):
    """As Hadoop's FileChecksumHelper has it: MD5 of a buffer that began with 32 bytes."""
    md5s = b""
    for block in blocks:
        pieces = [block[start : start + 512] for start in range(0, len(block), 512)]
        crcs = b"".join(
            base64.b64decode(checksums.digest_bytes(piece, ("crc32c",)).values["crc32c"])
            for piece in pieces
        )
        md5s += hashlib.md5(crcs).digest()
    room = 32
    while room < len(md5s):
        room *= 2
    return base64.b64encode(hashlib.md5(md5s + bytes(room - len(md5s))).digest()).decode()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 8, 9])
def test_the_checksum_of_a_file_in_hdfs_is_filled_up_to_a_power_of_two(tmp_path, count):
    blocks = [bytes([number]) * 1024 for number in range(count)]
    path = tmp_path / "f"
    path.write_bytes(b"".join(blocks))
    found = checksums.digest_file_parts(path, checksums.HDFS, [1024] * count or [0])
    assert found.values["hdfs-crc32c-composite"] == hdfs_slowly(blocks)


def test_an_empty_file_has_the_checksum_that_hadoop_gives_each_of_them(tmp_path):
    path = tmp_path / "f"
    path.touch()
    found = checksums.digest_file_parts(path, checksums.HDFS, [0])
    raw = base64.b64decode(found.values["hdfs-crc32c-composite"])
    assert raw.hex() == "70bc8f4b72a86921468bf8e8441dce51"


@given(
    st.binary(max_size=5000),
    st.integers(1, 3).map(lambda blocks: blocks * 1024),
    st.integers(1, 1500),
)
def test_the_checksum_of_a_file_in_hdfs_does_not_depend_on_how_it_is_read(
    tmp_path_factory, data, block, chunk
):
    path = tmp_path_factory.getbasetemp() / "hdfs"
    path.write_bytes(data)
    blocks = [data[start : start + block] for start in range(0, len(data), block)]
    sizes = [len(each) for each in blocks] or [0]
    found = checksums.digest_file_parts(path, checksums.HDFS, sizes, chunk)
    assert found.values["hdfs-crc32c-composite"] == hdfs_slowly(blocks)
    assert found.values["crc64nvme"] == checksums.digest_bytes(data).values["crc64nvme"]
