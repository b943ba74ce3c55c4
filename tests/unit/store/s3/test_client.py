"""Making a client for a bucket; what it is used for is tested in ``tests/store``."""

from __future__ import annotations

import pytest
from botocore.utils import parse_timestamp

from mountkit.errors import ConfigurationError
from mountkit.spec import Source, StoreOptions
from mountkit.store.s3 import client
from mountkit.store.s3.store import S3Store


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A machine on which nobody has configured boto3."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return tmp_path


def refusal(endpoint: str | None, **options: str) -> ConfigurationError:
    given = StoreOptions(endpoint, "us-east-1", **options)
    with pytest.raises(ConfigurationError) as caught:
        S3Store(Source("s3", "bucket", "run"), given).client()
    assert caught.value.exit_code == 78
    return caught.value


@pytest.mark.parametrize("host", ["minio_server", "a..b", "-minio"])
def test_a_host_name_that_boto3_does_not_accept(host):
    error = refusal(f"http://{host}:9000")
    assert f"http://{host}:9000" in error.message
    assert "underscore" in error.message
    assert "IP address" in error.hint


def test_one_of_the_profile_is_named_without_its_credentials(alone):
    (alone / "config").write_text("[default]\nendpoint_url = http://me:hunter2@minio_server:9000\n")
    error = refusal(None)
    assert "http://minio_server:9000" in error.message
    assert "hunter2" not in str(error)


def test_another_setting_that_boto3_cannot_read(monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "soon")
    error = refusal(None)
    assert "soon" in error.message
    assert "underscore" not in error.message


def test_what_botocore_says_itself_is_left_to_the_table():
    """Some of its errors are ValueErrors too, and tell more."""
    store = S3Store(Source("s3", "bucket", "run"), StoreOptions(None, "no region"))
    with pytest.raises(ConfigurationError, match="No valid region"), store.translated("list"):
        store.client()


@pytest.mark.parametrize(
    "text",
    [
        "Sat, 28 Nov 2026 13:21:10 GMT",
        "Sat, 28 Nov 2026 13:21:10 -0000",
        "2026-11-28T13:21:10.123Z",
        "2026-11-28T13:21:10+00:00",
        "2026-11-28 13:21:10",
        1795872070,
        "1795872070",
    ],
)
def test_a_date_is_what_botocore_takes_it_for(text):
    assert client._moment(text) == parse_timestamp(text)


def test_what_is_no_date_is_none():
    with pytest.raises(ValueError, match="Invalid timestamp"):
        client._moment("soon")
