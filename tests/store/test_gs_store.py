"""What is Google Cloud Storage's own: credentials, rights, and what a proof costs."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys

import pytest

from mountkit.checkpoints.attestation import attest_object
from mountkit.errors import ConfigurationError, MountUnavailableError, PermissionDeniedError
from mountkit.store import checksums
from mountkit.store.base import ObjectChangedError
from mountkit.store.gs.client import INSTALL
from support.gcs import Key


@pytest.fixture(scope="module")
def google(serve):
    """The door before the server, through which every request of this suite goes."""
    return serve("gs").door


@pytest.fixture
def place(place_on, google):
    found = place_on("gs")
    google.asked.clear()
    yield found
    google.refuse = lambda _method, _path: 0


def refusal(store, kind, **how):
    """The error of the preflight."""
    with pytest.raises(kind) as refused:
        store.check(**how)
    assert refused.value.hint
    return refused.value


class TestWhatAProofCosts:
    def test_many_are_one_listing_and_nothing_is_read(self, place, google, tmp_path):
        place.store.check(write=False)
        files = {f"checkpoint-1/part-{number:03}": os.urandom(100 + number) for number in range(40)}
        for path, data in files.items():
            place.put(path, data)
        place.put("checkpoint-1/deeper/other", b"1")
        place.put("checkpoint-1/none-of-them", b"1")
        google.asked.clear()
        seen = place.store.stat_many([*files, "checkpoint-1/part-never"])
        assert [asked.method for asked in google.asked] == ["GET"]
        assert "/o" in google.asked[0].path
        for path, data in files.items():
            reference = checksums.digest_bytes(data)
            local = tmp_path / "local"
            local.write_bytes(data)
            verdict = attest_object(place.store, path, reference, local, attestation=seen[path])
            assert (verdict.ok, verdict.attested_by) == (True, "crc32c")
        assert seen["checkpoint-1/part-never"] is None
        assert len(seen) == len(files) + 1
        assert google.media() == []
        assert len(google.asked) == 1

    def test_more_than_a_page(self, place, google, monkeypatch):
        monkeypatch.setattr("mountkit.store.gs.store.PAGE", 7)
        names = [f"d/{number:02}" for number in range(20)]
        for name in names:
            place.put(name, b"x")
        place.put("e/1", b"x")
        place.store.check(write=False)
        google.asked.clear()
        assert [item.path for item in place.store.list("d")] == names
        assert len(google.asked) == 3
        seen = place.store.stat_many(names)
        assert all(seen.values())
        assert len(google.asked) == 6
        assert place.store.directories() == ("d", "e")

    def test_what_was_composed_is_proven_by_its_crc32c(self, place, google, tmp_path):
        local = tmp_path / "f"
        local.write_bytes(os.urandom(300_000))
        data = local.read_bytes()
        place.upload_parts("f", [data[:100_000], data[100_000:]])
        verdict = attest_object(place.store, "f", checksums.digest_file(local), local)
        assert (verdict.ok, verdict.attested_by) == (True, "crc32c")
        assert google.media() == []
        # One byte more in the store, or another one, and it is not.
        place.upload_parts("f", [data[:100_000], data[100_000:-1] + b"!"])
        assert not attest_object(place.store, "f", checksums.digest_file(local), local).ok

    def test_what_is_replaced_while_it_is_read_is_told(self, place):
        place.put("f", os.urandom(3000))
        reading = place.store.chunks("f", chunk_bytes=1000)
        next(reading)
        place.put("f", os.urandom(3000))
        with pytest.raises(ObjectChangedError, match="replaced"):
            list(reading)


@pytest.mark.fault(18)
class TestCredentials:
    def test_a_service_account_asks_for_one_token(self, place, google):
        facts = place.store.check()
        assert facts.credentials == "service_account"
        tokens = [asked for asked in google.asked if asked.path == "/token"]
        assert [asked.status for asked in tokens] == [200]
        assert place.store.stat("none") is None

    def test_a_token_that_ends_is_renewed(self, place, google):
        place.store.put("a", b"1")
        google.revoke()
        assert place.store.get("a") == b"1"

    def test_another_key_is_refused(self, place, google, tmp_path, monkeypatch):
        path = Key().write(tmp_path / "other.json", f"{google.url}/token")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        error = refusal(place.at(place.store.source), PermissionDeniedError)
        assert "invalid_grant" in error.message
        assert not error.may_pass
        assert "PRIVATE" not in str(error)

    @pytest.mark.parametrize("content", [None, "", "{}", "no json"])
    def test_a_key_that_is_none(self, place, tmp_path, monkeypatch, content):
        path = tmp_path / "key.json"
        if content is not None:
            path.write_text(content)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        error = refusal(place.at(place.store.source), ConfigurationError)
        assert "no credentials" in error.message
        assert "GOOGLE_APPLICATION_CREDENTIALS" in error.hint

    def test_none_at_all(self, place, monkeypatch):
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
        # A metadata server that never answers, as a firewall makes one.
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            host = f"127.0.0.1:{silent.getsockname()[1]}"
            monkeypatch.setenv("GCE_METADATA_HOST", host)
            monkeypatch.setenv("GCE_METADATA_IP", host)
            error = refusal(place.at(place.store.source), ConfigurationError)
        assert "no credentials" in error.message

    def test_an_emulator_needs_none(self, place, google, monkeypatch):
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
        upstream = "{}:{}".format(*google.upstream)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", upstream)
        facts = place.at(place.store.source, endpoint_url=f"http://{upstream}").check()
        assert facts.credentials == "none"

    def test_a_right_is_missing(self, place, google):
        for method, path, right in (
            ("GET", "/o", "storage.objects.list"),
            ("POST", "/upload/", "storage.objects.create"),
            ("DELETE", "/o/", "storage.objects.delete"),
        ):
            google.refuse = lambda asked, at, method=method, path=path: (
                403 if (asked, path in at) == (method, True) else 0
            )
            error = refusal(place.store, PermissionDeniedError)
            assert right in str(error), method
        google.refuse = lambda _method, _path: 0
        assert place.store.check(write=False).written is False

    def test_a_token_server_that_is_away(self, place, google, tmp_path, monkeypatch):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            uri = f"http://127.0.0.1:{free.getsockname()[1]}/token"
            path = google.key.write(tmp_path / "key.json", uri)
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
            error = refusal(place.at(place.store.source), MountUnavailableError)
        assert "token" in error.message


class TestAway:
    @pytest.mark.fault(33)
    def test_a_store_that_stammers_is_asked_again(self, place, google):
        place.put("a", b"1")
        left = [503, 429]
        google.refuse = lambda _method, _path: left.pop() if left else 0
        assert place.store.stat("a").size == 1
        google.refuse = lambda _method, _path: 503
        with pytest.raises(MountUnavailableError, match="busy"):
            place.store.stat("a")

    @pytest.mark.fault(34)
    def test_a_store_that_says_nothing(self, place):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            error = refusal(
                place.at(place.store.source, endpoint_url=url), MountUnavailableError, seconds=3.0
            )
        assert url in error.message

    @pytest.mark.parametrize("url", ["ftp://x", "http://", "http://user:word@host:1"])
    def test_an_endpoint_that_is_none(self, place, url):
        error = refusal(place.at(place.store.source, endpoint_url=url), ConfigurationError)
        assert "word" not in str(error)


@pytest.mark.fault(18)
def test_a_metadata_server_that_never_answers_is_asked_twice():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        env = {**os.environ, "GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}
        env.pop("GOOGLE_APPLICATION_CREDENTIALS", None)
        words = [sys.executable, "-m", "mountkit", "latest", "gs://bucket/run"]
        done = subprocess.run(
            words, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 78, done.stderr
        assert "no credentials" in done.stderr
        silent.settimeout(0.1)
        asked = 0
        with contextlib.suppress(TimeoutError):
            while True:
                silent.accept()[0].close()
                asked += 1
    assert asked == 2


def test_without_the_extra_it_names_the_command(tmp_path):
    # As where it was never installed: nothing below ``google`` can be imported.
    (tmp_path / "google").mkdir()
    (tmp_path / "google" / "__init__.py").write_text("raise ImportError('no google')")
    words = [sys.executable, "-m", "mountkit", "latest", "gs://bucket/run"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78, done.stderr
    assert INSTALL in done.stderr
