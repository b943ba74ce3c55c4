"""What is Azure's own: whose word an MD5 is, accounts and credentials, and what is missing."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys

import pytest

from mountkit.checkpoints.attestation import READ_BACK, attest_object
from mountkit.errors import (
    ConfigurationError,
    MountUnavailableError,
    PermissionDeniedError,
    UsageError,
)
from mountkit.spec import Source, StoreOptions
from mountkit.store import checksums, open_store, parse, provider
from mountkit.store.az import account
from mountkit.store.az.client import INSTALL
from mountkit.store.base import ObjectChangedError
from support import azurite

DATA = b"what was written" * 1000
LIE = bytearray(hashlib.md5(DATA, usedforsecurity=False).digest())


@pytest.fixture
def place(place_on):
    return place_on("az")


def lies(place):
    """Other bytes than ``DATA``, and the MD5 of ``DATA`` beside them, in two ways."""
    from azure.storage.blob import ContentSettings

    told = ContentSettings(content_md5=LIE)
    other = b"W" + DATA[1:]
    place.upload_parts("in-blocks", [other[:100], other[100:]], content_settings=told)
    place.put("afterwards", other)
    place.client.get_blob_client(place.store.source.key("afterwards")).set_http_headers(told)
    return "in-blocks", "afterwards"


class TestWhoseWordAnMd5Is:
    def test_what_a_client_says_of_its_bytes_is_never_believed(self, place, tmp_path):
        local = tmp_path / "f"
        local.write_bytes(DATA)
        for path in lies(place):
            seen = place.store.stat(path)
            assert [(told.algorithm, told.by) for told in seen.checksums] == [("md5", "client")]
            assert seen.size == len(DATA)
            verdict = attest_object(place.store, path, checksums.digest_file(local), local)
            assert (verdict.problem, verdict.attested_by) == ("altered", READ_BACK)

    def test_the_bytes_are_read_back(self, place, tmp_path):
        local = tmp_path / "f"
        local.write_bytes(DATA)
        place.put("f", DATA)
        verdict = attest_object(place.store, "f", checksums.digest_file(local), local)
        assert (verdict.ok, verdict.attested_by) == (True, READ_BACK)
        # From now on its tag tells.
        assert verdict.etag == place.store.stat("f").tag
        place.client.get_blob_client(place.store.source.key("f")).set_blob_metadata({"a": "b"})
        assert verdict.etag != place.store.stat("f").tag

    def test_what_is_replaced_while_it_is_read_is_told(self, place):
        place.put("f", os.urandom(3000))
        reading = place.store.chunks("f", chunk_bytes=1000)
        next(reading)
        place.put("f", os.urandom(3000))
        with pytest.raises(ObjectChangedError, match="replaced"):
            list(reading)


@pytest.mark.fault(18)
class TestCredentials:
    def test_another_key_is_refused(self, place, monkeypatch):
        other = azurite.new_key()
        parts = os.environ[account.CONNECTION].split(";")
        parts[2] = f"AccountKey={other}"
        monkeypatch.setenv(account.CONNECTION, ";".join(parts))
        with pytest.raises(PermissionDeniedError) as refused:
            place.at(place.store.source).check()
        assert other not in str(refused.value)

    def test_an_account_and_a_key(self, place, monkeypatch):
        found = account.find(place.store.source, None, os.environ)
        monkeypatch.delenv(account.CONNECTION)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", found.name)
        monkeypatch.setenv("AZURE_STORAGE_KEY", found.key)
        assert place.at(place.store.source).check().credentials == "account key"

    @pytest.mark.parametrize(("rights", "code"), [("rwdlc", 0), ("rl", 77)])
    def test_a_signature_with_and_without_the_right_to_write(
        self, place, monkeypatch, rights, code
    ):
        from datetime import UTC, datetime, timedelta

        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        found = account.find(place.store.source, None, os.environ)
        sas = generate_container_sas(
            found.name,
            "bucket",
            account_key=found.key,
            permission=ContainerSasPermissions.from_string(rights),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        monkeypatch.delenv(account.CONNECTION)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", found.name)
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", f"?{sas}")
        store = place.at(place.store.source)
        if not code:
            assert store.check().credentials == "shared access signature"
            return
        assert store.check(write=False)
        with pytest.raises(PermissionDeniedError, match="Create and Write") as refused:
            store.check()
        assert found.key not in str(refused.value)
        assert sas not in str(refused.value)

    def test_none_at_all(self, place, monkeypatch):
        monkeypatch.delenv(account.CONNECTION)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "training")
        for wrong in ({}, {account.CONNECTION: "no connection string"}):
            for name, value in wrong.items():
                monkeypatch.setenv(name, value)
            with pytest.raises(ConfigurationError) as refused:
                place.at(place.store.source).check()
            assert refused.value.hint

    def test_a_store_that_says_nothing(self, place):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/{azurite.ACCOUNT}"
            with pytest.raises(MountUnavailableError, match=url):
                place.at(place.store.source, endpoint_url=url).check(seconds=2.0)


KEY = {"AZURE_STORAGE_ACCOUNT": "mine", "AZURE_STORAGE_KEY": "a-key"}
WHOLE = {
    account.CONNECTION: "AccountName=theirs;AccountKey=k=;EndpointSuffix=core.chinacloudapi.cn"
}


@pytest.mark.parametrize(
    ("url", "environment", "address", "key"),
    [
        ("az://c/p", KEY, "https://mine.blob.core.windows.net", "a-key"),
        ("az://c", {**KEY, **WHOLE}, "https://theirs.blob.core.chinacloudapi.cn", "k="),
        (
            "abfs://c@mine.dfs.core.windows.net/p",
            KEY,
            "https://mine.blob.core.windows.net",
            "a-key",
        ),
        ("abfs://c@mine/p", WHOLE, "https://mine.blob.core.windows.net", ""),
        ("adl://c@other.dfs.core.windows.net/p", {}, "https://other.blob.core.windows.net", ""),
        (
            "az://c",
            {account.CONNECTION: "UseDevelopmentStorage=true"},
            "http://127.0.0.1:10000/devstoreaccount1",
            account.EMULATOR["AccountKey"],
        ),
    ],
)
def test_which_account_is_meant(url, environment, address, key):
    place = parse(url)
    options = provider(place.scheme).options(StoreOptions(), environment)
    found = account.find(place, options.endpoint_url, environment)
    assert (found.url, found.key) == (address, key)
    assert key not in repr(options) or not key
    assert account.container(place) == "c"
    assert parse(place.url) == place


def test_the_key_is_told_to_rclone_in_private_alone(monkeypatch):
    for name, value in KEY.items():
        monkeypatch.setenv(name, value)
    place = parse("az://c/p")
    store = provider("az")
    remote = store.rclone_remote(place, store.options(StoreOptions(), os.environ), ("a", "b"))
    assert "a-key" not in str(remote)
    assert "AccountKey=a-key" in remote.private()[""]["connection_string"]
    assert not store.variables.fullmatch("AZURE_STORAGE_KEY")
    assert remote.path == "c/p"


@pytest.mark.parametrize(
    "url", ["az://", "az:///p", "az://user:word@c/p", "az://c/../p", "az://C/p"]
)
def test_a_url_that_is_none(url):
    with pytest.raises(UsageError) as refused:
        parse(url)
    assert "word" not in refused.value.message


def test_no_account_at_all():
    with pytest.raises(ConfigurationError, match="in which account"):
        open_store(Source("az", "c", ""), StoreOptions()).stat("f")


def test_without_the_extra_it_names_the_command(tmp_path):
    (tmp_path / "azure").mkdir()
    (tmp_path / "azure" / "__init__.py").write_text("raise ImportError('no azure')")
    words = [sys.executable, "-m", "mountkit", "latest", "az://bucket/run"]
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    env = {**os.environ, **KEY, "PYTHONPATH": paths}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78, done.stderr
    assert INSTALL in done.stderr
