"""HDFS: its two addresses, its user, and what its words mean. No request is made."""

from __future__ import annotations

import pytest

from mountkit.errors import ConfigurationError
from mountkit.spec import Source, StoreOptions
from mountkit.store import checksums, parse, provider, refusal_in
from mountkit.store.hdfs import addresses, file_checksum

# 512 bytes a CRC, none per block, and the MD5.
BYTES = "00000200" + "0" * 16 + "70bc8f4b72a86921468bf8e8441dce51"


def test_a_name_node_without_a_port_has_the_usual_one():
    assert parse("hdfs://namenode/user/me/run") == parse("hdfs://namenode:8020/user/me/run/")
    assert parse("hdfs://namenode:9000").bucket == "namenode:9000"


def test_webhdfs_is_on_the_usual_port_of_the_same_host_unless_it_is_said():
    assert addresses.webhdfs("namenode:8020", None) == "http://namenode:9870"
    assert addresses.webhdfs("namenode:8020", "https://other:1/") == "https://other:1"
    for url in ("other:9870", "http://", "http://a:b@other"):
        with pytest.raises(ConfigurationError):
            addresses.webhdfs("namenode:8020", url)


def test_rclone_speaks_to_the_name_node_as_the_user(monkeypatch):
    monkeypatch.setenv("HADOOP_USER_NAME", "trainer")
    source = Source("hdfs", "namenode:8020", "user/me/run")
    told = provider("hdfs").rclone_remote(source, StoreOptions("http://n:9870"), ("m", "id"))
    assert dict(told.configuration) == {
        "type": "hdfs",
        "namenode": "namenode:8020",
        "username": "trainer",
    }
    assert (told.path, told.tag) == ("user/me/run", ())


@pytest.mark.parametrize(
    ("algorithm", "content", "value"),
    [
        ("MD5-of-0MD5-of-512CRC32C", BYTES, BYTES[24:]),
        ("MD5-of-2048MD5-of-512CRC32C", BYTES + "00000002", BYTES[24:]),
        # Of other kinds nothing is computed here: the bytes are read back.
        ("MD5-of-0MD5-of-512CRC32", BYTES, None),
        ("MD5-of-0MD5-of-1024CRC32C", BYTES, None),
        ("COMPOSITE-CRC32C", "e3069283", None),
        ("MD5-of-0MD5-of-512CRC32C", "zz", None),
        ("MD5-of-0MD5-of-512CRC32C", BYTES[:-2], None),
        ("", "", None),
    ],
)
def test_what_a_file_checksum_says(algorithm, content, value):
    found = file_checksum.read({"algorithm": algorithm, "bytes": content, "length": 28})
    if value is None:
        assert found is None
    else:
        assert (found.algorithm, found.scope) == (checksums.HDFS, "parts")
        assert checksums.hex_of(found.value) == value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("create: permission denied", 3.0),
        ("org.apache.hadoop.security.AccessControlException: Permission denied: user=x", 3.0),
        ("org.apache.hadoop.hdfs.server.namenode.SafeModeException: Name node is in safe", None),
        ("dial tcp 127.0.0.1:9: connect: connection refused", None),
    ],
)
def test_a_refusal_is_told_from_what_may_pass(text, seconds):
    assert refusal_in(Source("hdfs", "n:1", ""), text) == seconds
