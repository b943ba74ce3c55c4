"""Objects that a program removed, and that come back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from mountkit.proof.hidden_objects import hidden, unseen
from mountkit.timing import Deadline
from support.fakes import FakeMount

if TYPE_CHECKING:
    from mountkit.store.base import ObjectInfo

BEGAN = datetime(2024, 5, 6, tzinfo=UTC)

pytestmark = pytest.mark.fault(44)


@pytest.fixture
def mount(tmp_path) -> FakeMount:
    found = FakeMount(tmp_path)
    found.begin(store_began=BEGAN.timestamp())
    return found


def put(mount: FakeMount, path: str, after: float, mark: str = "", data: bytes = b"12345") -> None:
    key = mount.spec.source.key(path)
    mount.bucket.objects[key] = data
    mount.bucket.modified[key] = BEGAN + timedelta(seconds=after)
    mount.bucket.metadata[key] = {"mountkit": mark} if mark else {}


def look(mount: FakeMount, known: tuple[str, ...] = ()) -> frozenset[ObjectInfo]:
    return unseen(mount, mount.store(), mount.store().list(), known, Deadline())


def shown(mount: FakeMount, paths: frozenset[ObjectInfo], known: tuple[str, ...] = ()) -> list[str]:
    return [one.path for one in hidden(mount, mount.store(), paths, known, Deadline())]


def test_what_a_directory_read_anew_brings_back_is_named(mount):
    put(mount, "a/x", -60.0)
    put(mount, "a/same-second", 0.0)
    mount.lacks = frozenset({"a/x", "a/same-second"})
    paths = look(mount)
    mount.lacks = frozenset()
    assert shown(mount, paths) == ["a/same-second", "a/x"]
    assert mount.daemon.refreshed == ["a"]


def test_what_the_mount_shows_or_still_does_not_is_not(mount):
    put(mount, "there", -60.0)
    put(mount, "unshowable", -60.0)
    mount.lacks = frozenset({"unshowable"})
    assert shown(mount, look(mount)) == []


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_another_programs_object_is_no_concern_of_this_run(mount, when):
    put(mount, "x", 5.0 if when == "before" else -60.0)
    mount.lacks = frozenset({"x"})
    paths = look(mount)
    put(mount, "x", 5.0, data=b"another's")
    mount.lacks = frozenset()
    assert shown(mount, paths) == []


def test_what_was_written_again_meanwhile_is_proven_elsewhere(mount):
    put(mount, "x", -60.0)
    mount.lacks = frozenset({"x"})
    paths = look(mount)
    mount.lacks = frozenset()
    assert shown(mount, paths, ("x",)) == []


@pytest.mark.parametrize(
    ("run", "named"), [("{id}-before", ["x"]), ("{id}", []), ("another-run", []), ("", [])]
)
def test_what_an_earlier_run_uploaded_and_this_one_renamed_there_is_dated_anew(mount, run, named):
    mark = run.format(id=mount.spec.id)
    for path in ("x", "checkpoint-3/x"):
        put(mount, path, 5.0, mark)
    # What was proven after that is where its program wants it.
    put(mount, "checkpoint-3/mountkit-manifest.json", 6.0)
    mount.lacks = frozenset({"x", "checkpoint-3/x"})
    paths = look(mount)
    mount.lacks = frozenset()
    assert shown(mount, paths) == named
