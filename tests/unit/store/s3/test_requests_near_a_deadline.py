"""A connection to a store that a deadline may come near to at any time."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from mountkit.errors import TimeUpError
from mountkit.spec import Source, StoreOptions
from mountkit.store.s3.store import S3Store
from mountkit.timing import Deadline


@pytest.fixture
def deadline() -> Deadline:
    return Deadline()


@pytest.fixture
def store(deadline) -> S3Store:
    options = StoreOptions("http://127.0.0.1:9", "us-east-1")
    return S3Store(Source("s3", "bucket", "run"), options, patience=120.0, deadline=deadline)


def read_timeout(store: S3Store) -> float:
    return store.client().meta.config.read_timeout


def test_requests_get_shorter_as_a_signal_sets_the_deadline(store, deadline):
    first = store.client()
    assert read_timeout(store) == 40.0
    assert store.client() is first
    deadline.set(24.0)
    assert 1.0 <= read_timeout(store) <= 2.0
    deadline.set(8.0)
    assert read_timeout(store) == 1.0


def test_one_far_away_changes_nothing(store, deadline):
    deadline.set(3600.0)
    assert read_timeout(store) == 40.0


def test_once_it_has_passed_nothing_is_asked(store, deadline):
    deadline.set(0.0)
    for request in (
        lambda: list(store.list()),
        lambda: store.stat("x"),
        lambda: store.stat_many(["x", "y"]),
        lambda: store.get("x"),
        lambda: store.put("x", b""),
        lambda: list(store.chunks("x")),
    ):
        with pytest.raises(TimeUpError):
            request()


def test_a_listing_ends_between_two_pages(store, deadline, monkeypatch):
    asked = []

    def paginate(**_):
        for number in range(1000):
            asked.append(number)
            if number == 2:
                deadline.set(0.0)
            yield {"Contents": ()}

    pages = SimpleNamespace(paginate=paginate)
    client = SimpleNamespace(get_paginator=lambda _: pages)
    monkeypatch.setattr(store, "client", lambda **_: client)
    with pytest.raises(TimeUpError):
        list(store.list())
    assert asked == [0, 1, 2]


def test_an_object_that_is_read_back_ends_between_two_chunks(store, deadline, monkeypatch):
    body = io.BytesIO(b"x" * 1000)
    client = SimpleNamespace(get_object=lambda **_: {"Body": body, "ETag": '"e"'})
    monkeypatch.setattr(store, "client", lambda **_: client)
    chunks = store.chunks("x", chunk_bytes=10)
    assert next(chunks) == b"x" * 10
    deadline.set(0.0)
    with pytest.raises(TimeUpError):
        next(chunks)
    assert body.closed
