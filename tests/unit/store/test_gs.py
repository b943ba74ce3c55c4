"""Google Cloud Storage: what rclone is told, and what its words mean. No request is made."""

from __future__ import annotations

import pytest
from google.auth.exceptions import DefaultCredentialsError

from mountkit.spec import Source, StoreOptions
from mountkit.store import provider, refusal_in
from mountkit.store.gs.errors import translate

GS = Source("gs", "bucket", "run 1")


def remote(**options):
    return provider("gs").rclone_remote(GS, StoreOptions(**options), ("mountkit", "id"))


def test_rclone_finds_the_credentials_where_googles_libraries_do(monkeypatch):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    told = remote()
    assert told.configuration["env_auth"] == "true"
    assert "anonymous" not in told.configuration
    assert "endpoint" not in told.configuration
    assert told.path == "bucket/run 1"
    assert told.tag == (("header-upload", "X-Goog-Meta-mountkit: id"),)


def test_an_emulator_is_asked_without_credentials_unless_some_were_given(monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:4443")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    environment = {"STORAGE_EMULATOR_HOST": "127.0.0.1:4443"}
    options = provider("gs").options(StoreOptions(region="r", profile="p"), environment)
    assert options == StoreOptions("http://127.0.0.1:4443")
    told = remote(endpoint_url=options.endpoint_url)
    assert told.configuration["anonymous"] == "true"
    assert told.configuration["endpoint"] == "http://127.0.0.1:4443/storage/v1/"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/key.json")
    assert "anonymous" not in remote(endpoint_url=options.endpoint_url).configuration
    # What was said on the command line counts before it.
    given = StoreOptions("https://private.example")
    assert provider("gs").options(given, environment) == given


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("googleapi: Error 403: a@b does not have storage.objects.create access, forbidden", 3.0),
        ("googleapi: Error 401: Invalid Credentials, authError", 15.0),
        ('oauth2: cannot fetch token: 400 Response: {"error":"invalid_grant"}', 0.0),
        ("googleapi: Error 404: The specified bucket does not exist., notFound", 0.0),
        ("googleapi: Error 403: The billing account is disabled, forbidden: billing account", 0.0),
        ("googleapi: Error 403: Rate limit exceeded, rateLimitExceeded", None),
        ("googleapi: Error 429: slow down", None),
        ("googleapi: Error 503: Backend Error", None),
        ("dial tcp 127.0.0.1:9: connect: connection refused", None),
        ("", None),
    ],
)
def test_for_how_long_a_refusal_may_pass(text, seconds):
    assert refusal_in(GS, text) == seconds


def test_a_key_in_place_of_the_name_of_its_file_is_not_quoted(monkeypatch):
    secret = "1//refresh-token-of-nobody"
    value = f'{{"type": "authorized_user", "refresh_token": "{secret}"}}'
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", value)
    said = DefaultCredentialsError(f"File {value} was not found.")
    told = translate(said, doing="list", where="gs://bucket/run")
    assert secret not in f"{told.message} {told.hint}"
    assert "GOOGLE_APPLICATION_CREDENTIALS holds a key itself" in told.message
