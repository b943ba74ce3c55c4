"""Who has the cache of a mount."""

from __future__ import annotations

import threading

import pytest
from filelock import FileLock

from mountkit.errors import MountUnavailableError
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state import cache_lock

LIMIT = 30.0


@pytest.fixture
def spec(tmp_path) -> MountSpec:
    return MountSpec(Source("s3", "b", "p"), "/mnt", "rclone", StoreOptions(), str(tmp_path))


@pytest.fixture
def other(tmp_path) -> FileLock:
    lock = FileLock(tmp_path / cache_lock.LOCK_NAME, thread_local=False)
    lock.acquire()
    yield lock
    lock.release()


def test_who_only_looks_is_waited_for(spec, other):
    looked = threading.Timer(0.05, other.release)
    looked.start()
    try:
        cache_lock.acquire(spec, patience=LIMIT).release()
    finally:
        looked.join()
    assert cache_lock.LOOK_SECONDS > 0


def test_who_keeps_it_is_not(spec, other):
    with pytest.raises(MountUnavailableError, match="by another process"):
        cache_lock.acquire(spec)
    assert other.is_locked


def test_a_look_waits_for_nobody_and_leaves_it_free(spec, other):
    assert not cache_lock.is_free(spec)
    other.release()
    assert cache_lock.is_free(spec)
    assert cache_lock.is_free(spec)
