"""The embedded server: ready when it says so, private, and gone when it is told to go."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from mountkit.demo.s3_server import EmbeddedS3
from mountkit.errors import MountUnavailableError, UsageError
from support.stores import find_rclone, plain_client, until


def test_it_serves_at_once_and_is_gone_at_the_end(tmp_path):
    with EmbeddedS3(tmp_path / "d", buckets=["one", "two"], binary=find_rclone()) as server:
        client = plain_client(server.endpoint_url, server.access_key, server.secret_key)
        assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["one", "two"]
        client.put_object(Bucket="one", Key="a/b", Body=b"x")
        assert (server.data / "one" / "a" / "b").read_bytes() == b"x"
        process = psutil.Process(server.pid)
        assert process.is_running()
    assert not psutil.pid_exists(process.pid)
    assert server.pid == 0
    assert (tmp_path / "d" / "one" / "a" / "b").exists()
    server.stop()


def test_data_of_its_own_goes_with_it():
    with EmbeddedS3(buckets=["b"], binary=find_rclone()) as server:
        data = server.data
        assert data.is_dir()
        assert data.parent.stat().st_mode & 0o077 == 0
    assert not data.parent.exists()


def test_it_listens_on_loopback_only():
    with EmbeddedS3(buckets=["b"], binary=find_rclone()) as server:
        listening = {
            connection.laddr.ip
            for connection in psutil.Process(server.pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert listening == {"127.0.0.1"}


def test_keys_are_random_and_on_no_command_line():
    with EmbeddedS3(buckets=["b"], binary=find_rclone()) as one:
        words = " ".join(psutil.Process(one.pid).cmdline())
        log = next(one.data.parent.glob("*.log"))
        assert one.secret_key not in words
        assert one.access_key not in words
        assert one.secret_key not in log.read_text()
        assert one.secret_key not in repr(one)
        assert log.stat().st_mode & 0o077 == 0
    assert EmbeddedS3(binary="rclone").secret_key != one.secret_key


def test_the_environment_leads_a_client_there(monkeypatch):
    import boto3

    with EmbeddedS3(buckets=["b"], binary=find_rclone()) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        found = boto3.Session().client("s3").list_buckets()["Buckets"]
        assert [bucket["Name"] for bucket in found] == ["b"]
        assert server.environment()["AWS_EC2_METADATA_DISABLED"] == "true"


def test_given_keys_and_a_stranger():
    keys = {"access_key": "myself", "secret_key": "hunter22"}
    with EmbeddedS3(buckets=["b"], binary=find_rclone(), **keys) as server:
        plain_client(server.endpoint_url, "myself", "hunter22").list_buckets()
        stranger = plain_client(server.endpoint_url, "myself", "other")
        with pytest.raises(stranger.exceptions.ClientError, match="SignatureDoesNotMatch"):
            stranger.list_buckets()


@pytest.mark.parametrize("key", ["me", 'a"b', "a,b,c", "new\nline"])
def test_keys_that_cannot_be_handed_over(key):
    with pytest.raises(UsageError):
        EmbeddedS3(binary="rclone", access_key=key)
    with pytest.raises(UsageError):
        EmbeddedS3(binary="rclone", secret_key=key)


def test_read_only():
    with EmbeddedS3(buckets=["b"], binary=find_rclone(), read_only=True) as server:
        (server.data / "b" / "a").write_bytes(b"x")
        client = plain_client(server.endpoint_url, server.access_key, server.secret_key)
        until(lambda: client.list_objects_v2(Bucket="b").get("KeyCount") == 1)
        with pytest.raises(client.exceptions.ClientError):
            client.put_object(Bucket="b", Key="c", Body=b"y")
        assert [path.name for path in (server.data / "b").iterdir()] == ["a"]


def test_a_binary_that_is_not_there(tmp_path):
    server = EmbeddedS3(binary=str(tmp_path / "none"))
    with pytest.raises(MountUnavailableError, match="none"):
        server.start()
    server.stop()


@pytest.mark.parametrize("script", ["echo out of order >&2; exit 3", "exec sleep 3600"])
def test_a_server_that_does_not_come_up(tmp_path, script):
    binary = tmp_path / "rclone"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    server = EmbeddedS3(binary=str(binary), ready_seconds=1)
    with pytest.raises(MountUnavailableError) as refused:
        server.start()
    if "exit" in script:
        assert "exit status 3" in refused.value.message
        assert "out of order" in refused.value.message
    assert server.pid == 0


def test_it_can_be_started_again(tmp_path):
    server = EmbeddedS3(tmp_path, buckets=["b"], binary=find_rclone())
    with server:
        first = server.endpoint_url
    with server:
        assert server.endpoint_url
        assert Path(server.data, "b").is_dir()
        plain_client(server.endpoint_url, server.access_key, server.secret_key).list_buckets()
    assert first
