"""What is HDFS's own: two addresses, a user, directories, and what a proof costs."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from mountkit.checkpoints.attestation import READ_BACK, attest_object
from mountkit.errors import ConfigurationError, MountUnavailableError, PermissionDeniedError
from mountkit.spec import Source
from mountkit.store import checksums
from mountkit.store.base import ObjectChangedError
from support.proxy import Proxy
from support.rig import eventually

BY = "hdfs-crc32c-composite"
BLOCK = 1024 * 1024


@pytest.fixture
def place(place_on):
    return place_on("hdfs")


@pytest.fixture
def proxy(place):
    found = Proxy(place.store.options.endpoint_url)
    yield found
    found.close()


def refusal(store, kind, **how):
    """The error of the preflight."""
    with pytest.raises(kind) as refused:
        store.check(**how)
    assert refused.value.hint
    return refused.value


def ops(proxy):
    return [request.query.partition("&")[0].removeprefix("op=") for request in proxy.asked]


class TestWhatAProofCosts:
    @pytest.mark.parametrize("size", [1, 511, 512, 513, BLOCK, BLOCK + 1, 5 * BLOCK + 777])
    def test_nothing_is_read(self, place, proxy, tmp_path, size):
        local = tmp_path / "f"
        local.write_bytes(os.urandom(size))
        place.put("f", local.read_bytes())
        store = place.at(place.store.source, endpoint_url=proxy.url)
        verdict = attest_object(store, "f", checksums.digest_file(local), local)
        assert (verdict.ok, verdict.attested_by) == (True, BY)
        assert "OPEN" not in ops(proxy)
        # Without the local bytes there is nothing to compute it from.
        verdict = attest_object(store, "f", checksums.digest_file(local))
        assert (verdict.ok, verdict.attested_by) == (True, READ_BACK)
        assert "OPEN" in ops(proxy)

    def test_a_byte_more_or_another_one_is_told(self, place, tmp_path):
        local = tmp_path / "f"
        local.write_bytes(os.urandom(2 * BLOCK + 5))
        data = bytearray(local.read_bytes())
        data[BLOCK] ^= 1
        place.put("f", bytes(data))
        verdict = attest_object(place.store, "f", checksums.digest_file(local), local)
        assert verdict.problem == "altered"
        place.client.append(place.store.source.key("f"), b"x")
        verdict = attest_object(place.store, "f", checksums.digest_file(local), local)
        assert verdict.problem == "size"

    def test_a_file_that_is_still_written_is_not_proven_and_refuses_nobody(self, place):
        with place.client.writing(place.store.source.key("f"), b"x" * 1000):
            eventually(lambda: place.store.stat("f") is not None, "begun")
            assert place.store.stat("f").checksums == ()
            verdict = attest_object(place.store, "f", checksums.digest_bytes(b"x" * 2000))
            assert not verdict.ok
        eventually(lambda: place.store.stat("f").checksums != (), "closed")

    def test_what_is_replaced_while_it_is_read_is_told(self, place):
        place.put("f", os.urandom(3000))
        reading = place.store.chunks("f", chunk_bytes=1000)
        next(reading)
        place.put("f", os.urandom(3000))
        with pytest.raises(ObjectChangedError, match="replaced"):
            list(reading)


class TestDirectories:
    def test_a_listing_is_sorted_as_in_a_store_without_directories(self, place):
        names = ["a/b", "a-b", "a.txt", "a0", "a/a/z"]
        for name in names:
            place.put(name, b"x")
        assert [item.path for item in place.store.list()] == sorted(names)

    def test_a_directory_is_no_object_and_nothing_lies_below_a_file(self, place):
        place.put("d/f", b"x")
        store = place.store
        assert store.stat("d") is None
        assert store.stat("d/f/x") is None
        assert store.get("d/f/x") is None
        assert list(store.list("d/f/x")) == []
        store.delete(["d", "d/f/x"])
        assert store.get("d/f") == b"x"

    @pytest.mark.fault(39)
    def test_a_colon_which_hdfs_does_not_take_is_written_as_rclone_writes_it(self, place):
        store = place.store
        for path in ("a:b", "d:1/e:2", ":"):
            store.put(path, path.encode())
            assert store.get(path) == path.encode()
        assert [item.path for item in store.list()] == [":", "a:b", "d:1/e:2"]
        assert store.directories() == ("d:1",)
        assert place.client.read(f"{place.prefix}/a\uff1ab") == b"a:b"
        store.delete(["a:b", "d:1/e:2", ":"])
        assert place.keys() == set()

    def test_a_directory_goes_with_the_last_file_in_it(self, place):
        store = place.store
        for path in ("c/d/e/1", "c/d/2", "other/1", "top"):
            place.put(path, b"x")
        place.client.make(store.source.key("other/empty"))
        store.delete(["c/d/e/1", "c/d/2", "other/1", "top", "none/at/all"])
        assert store.directories() == ("other",)
        # What was empty before is somebody else's, who is about to write there.
        assert store.directories("other") == ("empty",)

    @pytest.mark.fault(36)
    def test_of_many_that_create_it_one_does(self, place):
        store = place.store
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda n: store.put_if("l", str(n).encode(), tag=None), range(8)))
        (won,) = [version for version in made if version is not None]
        assert store.get("l") == won.data
        assert place.keys() == {"l"}, "a draft is left"


class TestWhatIsWrong:
    @pytest.mark.fault(19)
    def test_a_user_who_may_not_write(self, place, monkeypatch):
        place.put("f", b"x")
        monkeypatch.setenv("HADOOP_USER_NAME", "stranger")
        stranger = place.at(place.store.source)
        error = refusal(stranger, PermissionDeniedError)
        assert "can be listed" in error.message
        assert "user=stranger" in error.message
        assert "\tat " not in error.message
        assert "write access" in error.hint
        assert stranger.check(write=False).credentials == "user stranger"
        place.client.allow(place.store.source.key(""), "700")
        error = refusal(stranger, PermissionDeniedError, write=False)
        assert "to list" in error.message

    def test_the_name_nodes_port_is_wrong(self, place):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            wrong = f"127.0.0.1:{free.getsockname()[1]}"
            error = refusal(
                place.at(replace(place.store.source, bucket=wrong)), MountUnavailableError
            )
        assert f"could not be reached at {wrong}" in error.message

    def test_there_is_no_such_host(self, place):
        nowhere = Source("hdfs", "no-such-host.invalid:8020", "run")
        for store in (place.at(nowhere), place.at(nowhere, endpoint_url="")):
            error = refusal(store, ConfigurationError)
            assert "no-such-host.invalid" in error.message

    def test_the_endpoint_is_the_name_nodes_other_port(self, place):
        url = f"http://{place.store.source.bucket}"
        error = refusal(
            place.at(place.store.source, endpoint_url=url),
            (ConfigurationError, MountUnavailableError),
        )
        assert url in error.message
        assert "endpoint-url" in error.hint

    def test_the_endpoint_is_something_else(self, place, rclone):
        url = rclone.store.options.endpoint_url
        error = refusal(place.at(place.store.source, endpoint_url=url), ConfigurationError)
        assert "is not WebHDFS" in error.message

    @pytest.mark.fault(34)
    def test_a_name_node_that_says_nothing(self, place):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            store = place.at(place.store.source, endpoint_url=url)
            error = refusal(store, MountUnavailableError, seconds=2.0)
        assert url in error.message
