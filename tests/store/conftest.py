"""One place to test in, on each kind of store."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from mountkit.demo.s3_server import EmbeddedS3
from mountkit.spec import Source, StoreOptions
from mountkit.store.s3.store import S3Store
from support.stores import BUCKET, REGION, Place, ScriptedStore, find_rclone, plain_client

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    plain_client(url, "testing", "testing").create_bucket(Bucket=BUCKET)
    yield url
    server.stop()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    data = tmp_path_factory.mktemp("served")
    with EmbeddedS3(data, buckets=[BUCKET], binary=find_rclone()) as server:
        yield server


@pytest.fixture
def moto(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    prefix = f"run {uuid.uuid4().hex[:8]}"
    store = S3Store(Source("s3", BUCKET, prefix), StoreOptions(moto_url, REGION))
    return Place("moto", store, plain_client(moto_url, "testing", "testing"), prefix=prefix)


@pytest.fixture
def rclone(served: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name, value in served.environment().items():
        monkeypatch.setenv(name, value)
    prefix = f"run {uuid.uuid4().hex[:8]}"
    store = S3Store(Source("s3", BUCKET, prefix), StoreOptions(served.endpoint_url, REGION))
    client = plain_client(served.endpoint_url, served.access_key, served.secret_key)
    return Place("rclone", store, client, served.data / BUCKET / prefix, prefix)


@pytest.fixture(params=["moto", "rclone"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedStore]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDSCRIPTED")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-nobody-may-print")
    store = ScriptedStore()
    yield store
    store.stop()


@pytest.fixture
def scripted_store(scripted: ScriptedStore) -> S3Store:
    return S3Store(Source("s3", BUCKET, "run"), StoreOptions(scripted.url, REGION))
