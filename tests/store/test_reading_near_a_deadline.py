"""An object that is read back while the time is nearly up: no read, and no other try, goes on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from mountkit.errors import TimeUpError
from mountkit.spec import Source, StoreOptions
from mountkit.store.s3.store import S3Store
from mountkit.timing import Deadline
from support.stores import BUCKET, PIECE, REGION, Answer

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = b"x" * (16 * PIECE)
WAIT_SECONDS = 15.0

pytestmark = pytest.mark.fault(5, 33)


@pytest.fixture
def deadline() -> Deadline:
    return Deadline()


@pytest.fixture
def store(scripted, deadline) -> S3Store:
    options = StoreOptions(scripted.url, REGION)
    return S3Store(Source("s3", BUCKET, "run"), options, patience=300.0, deadline=deadline)


def answer(headers: dict[str, str], between: Callable[[int], object], end: int = 16) -> Answer:
    """The object from where it is asked for on, as far as that piece."""
    first = int(headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    more = {"ETag": '"e"', "Content-Range": f"bytes {first}-{len(DATA) - 1}/{len(DATA)}"}
    body = DATA[first : max(first, end * PIECE)]
    return Answer(206 if first else 200, body, more, len(DATA) - first, between)


def read_back(store: S3Store) -> int:
    """Of one that is cut short, nothing may come: the caller would go on with it."""
    return len(next(store.chunks("x", chunk_bytes=len(DATA))))


def get(store: S3Store) -> int:
    return len(store.get("x") or b"")


WAYS = pytest.mark.parametrize("way", [read_back, get])


@WAYS
def test_with_time_enough_all_of_it_is_read(scripted, store, deadline, way):
    deadline.set(3600.0)
    scripted.script = lambda *_: Answer(body=DATA, headers={"ETag": '"e"'})
    assert way(store) == len(DATA)


@WAYS
def test_a_store_that_sends_little_by_little_is_not_read_to_the_end(scripted, store, deadline, way):
    def between(number: int) -> None:
        if number == 3:
            deadline.set(0.0)

    scripted.script = lambda *_: Answer(body=DATA, headers={"ETag": '"e"'}, between=between)
    with pytest.raises(TimeUpError):
        way(store)


def test_one_that_stops_sending_is_not_waited_for(scripted, store, deadline):
    released = threading.Event()
    waited_out: list[int] = []

    def between(number: int) -> None:
        if number == 1:
            # By then, the time is nearly up, and there was much of it when the answer began.
            deadline.set(1.5)
        if (number == 8 or len(scripted.requests) > 1) and not released.wait(WAIT_SECONDS):
            waited_out.append(number)

    scripted.script = lambda _, __, headers: answer(headers, between)
    deadline.set(3600.0)
    with pytest.raises(TimeUpError):
        b"".join(store.chunks("x", chunk_bytes=len(DATA)))
    released.set()
    assert waited_out == []


@pytest.mark.parametrize("passes", ["before it breaks off", "between two tries"])
def test_one_that_breaks_off_is_not_asked_again(scripted, store, deadline, passes):
    asked: list[str] = []

    def script(_, __, headers: dict[str, str]) -> Answer:
        asked.append("x")
        if passes == "between two tries" and len(asked) == 2:
            deadline.set(0.0)

        def between(number: int) -> None:
            if number == 2 and passes == "before it breaks off":
                deadline.set(0.0)

        return answer(headers, between, 4 * len(asked))

    scripted.script = script
    with pytest.raises(TimeUpError):
        b"".join(store.chunks("x", chunk_bytes=len(DATA)))
    assert len(asked) == (1 if passes == "before it breaks off" else 2)
