"""One place to test in, on each kind of store."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from mountkit.spec import Source, StoreOptions
from mountkit.store.s3.store import S3Store
from support.stores import BUCKET, REGION, SERVERS, Place, ScriptedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.stores import Server


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """The server of that kind, started by the first test that asks for it."""
    running: dict[str, Server] = {}
    with ExitStack() as stack:

        def start(kind: str) -> Server:
            if kind not in running:
                server = SERVERS[kind](tmp_path_factory.mktemp(kind))
                running[kind] = stack.enter_context(server)
            return running[kind]

        yield start


@pytest.fixture
def place_on(
    serve: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Place]:
    """A place of this test's own, on a store of that kind."""

    def make(kind: str) -> Place:
        server = serve(kind)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        return server.place(f"run {uuid.uuid4().hex[:8]}")

    return make


@pytest.fixture
def moto(place_on: Callable[[str], Place]) -> Place:
    return place_on("moto")


@pytest.fixture
def rclone(place_on: Callable[[str], Place]) -> Place:
    return place_on("rclone")


@pytest.fixture
def place(rclone: Place) -> Place:
    """Where it does not matter which store it is: see the contract for that."""
    return rclone


@pytest.fixture(params=["moto", "rclone"])
def each_place(request: pytest.FixtureRequest, place_on: Callable[[str], Place]) -> Place:
    return place_on(request.param)


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
