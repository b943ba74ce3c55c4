"""What is known of a store by its URL scheme."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mountkit.errors import UsageError
from mountkit.spec import Source, StoreOptions
from mountkit.store import PROVIDERS, parse, provider, refusal_in

S3 = Source("s3", "bucket", "run")


def test_no_client_is_loaded_before_a_store_is_asked():
    code = (
        "import sys, mountkit.config.environment as environment, mountkit.spec as spec\n"
        "import mountkit.checkpoints.verification, mountkit.checkpoints.catalog\n"
        "from mountkit.store import open_store, parse\n"
        "options = spec.StoreOptions()\n"
        "for place in map(parse, ('s3://b/p', 'gs://b/p', 'hdfs://n/p')):\n"
        "    open_store(place, options), environment.daemon_environment(place, options)\n"
        "heavy = ('boto3', 'botocore', 'awscrt', 'stamina', 'google.cloud', 'google.auth', "
        "'requests')\n"
        "print([module for module in heavy if module in sys.modules])"
    )
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("scheme", ["", "S3", "GS", "ftp"])
def test_a_scheme_that_nobody_provides(scheme):
    with pytest.raises(UsageError, match="not a scheme"):
        provider(scheme)


def test_a_directory_of_this_machine_is_an_absolute_path():
    assert parse("file:///lustre//me/run-1/") == Source("file", "", "lustre/me/run-1")
    assert parse("file:///lustre/me").directory == "/lustre/me"
    assert S3.directory == ""


@pytest.mark.parametrize("url", ["file://run", "file://", "file:///", "file:///a/../b"])
def test_anything_else_is_none(url):
    with pytest.raises(UsageError) as caught:
        parse(url)
    assert "file:///lustre/me/run-1" in caught.value.hint


@pytest.mark.parametrize("scheme", PROVIDERS)
def test_what_every_store_says_of_itself(scheme):
    found = provider(scheme)
    assert all(found.variables.fullmatch(name) for name in found.file_variables)
    assert found.credentials
    assert found.daemon_credentials
    assert found.refusal_in("dial tcp: connection refused") is None
    source = Source(scheme, "" if scheme == "file" else "bucket", "run")
    remote = found.rclone_remote(source, StoreOptions(), ("name", "value"))
    assert all(option.startswith(remote.options) for option in found.rclone_owned)
    # Of a remote of the user's own, only rclone knows.
    assert "type" in remote.configuration or not remote.options
    for command in (found.list_command(source.url), found.delete_command(source.url)):
        names = {source.url, f"{source.bucket}:{source.prefix}", source.directory or source.url}
        assert any(name in command for name in names)


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("api error AccessDenied: Access Denied", True),
        ("operation error S3: PutObject, https response error StatusCode: 403, api error", True),
        ("api error SlowDown: Please reduce your request rate", False),
        ("https response error StatusCode: 503", False),
        ("dial tcp 127.0.0.1:9: connect: connection refused", False),
        ("", False),
    ],
)
def test_a_refusal_that_is_final_is_told_from_one_that_may_pass(text, final):
    assert (refusal_in(S3, text) is not None) is final
