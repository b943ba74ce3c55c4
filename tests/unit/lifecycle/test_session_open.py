"""The order in which a mount is made: what is looked at is nobody else's to change."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mountkit import backends
from mountkit.config.settings import Settings
from mountkit.errors import ConfigurationError, MountUnavailableError
from mountkit.lifecycle.session import Session
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state import cache_lock

PROGRAMS = {
    "rclone": "#!/bin/sh\necho rclone v1.75.0\n",
    "mount-s3": "#!/bin/sh\necho mount-s3 1.24.0\n",
}


#: What rclone notes of a file that is not uploaded yet.
META = {
    "ModTime": "2024-01-01T00:00:00Z",
    "Size": 4,
    "Rs": [{"Pos": 0, "Size": 4}],
    "Dirty": True,
}


class LookedError(Exception):
    """Ends what would mount."""


class Opening:
    """A mount that gets as far as the first look."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.settings = Settings(state_dir=folder / "state")
        self.spec = MountSpec(
            Source("s3", "bucket", "run"),
            str(folder / "mnt"),
            backend,
            StoreOptions(),
            str(folder / "cache"),
        )
        self.seen: list[bool] = []

    def open(self, **settings: object) -> None:
        """Mount, up to the look."""
        Session.open(self.spec, replace(self.settings, **settings), look=self._look)

    def _look(self, *_: object) -> None:
        self.seen.append(cache_lock.is_free(self.spec))
        raise LookedError


@pytest.fixture(params=backends.NAMES)
def opening(tmp_path, request, monkeypatch) -> Opening:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is missing, or may not be opened by this user")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {**PROGRAMS, "fusermount3": "#!/bin/sh\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.defpath}")
    return Opening(tmp_path, request.param)


@pytest.mark.fault(36)
def test_the_store_is_looked_at_by_the_one_who_has_the_cache(opening):
    with pytest.raises(LookedError):
        opening.open()
    assert opening.seen == [False]
    assert cache_lock.is_free(opening.spec)


@pytest.mark.fault(36)
def test_and_not_at_all_by_anybody_else(opening):
    lock = cache_lock.acquire(opening.spec)
    try:
        with pytest.raises(MountUnavailableError, match="by another process"):
            opening.open()
    finally:
        lock.release()
    assert opening.seen == []


@pytest.mark.fault(13, 36)
@pytest.mark.parametrize("opening", ["mountpoint"], indirect=True)
def test_what_waits_for_another_backend_is_told_once_that_has_ended(opening):
    place = Path(opening.spec.cache_dir) / "{}" / "mountkit/bucket/run/checkpoint-10/model"
    for folder, text in (("vfs", "data"), ("vfsMeta", json.dumps(META))):
        file = Path(str(place).format(folder))
        file.parent.mkdir(parents=True)
        file.write_text(text)
    lock = cache_lock.acquire(opening.spec)
    with pytest.raises(MountUnavailableError, match="by another process"):
        opening.open()
    lock.release()
    with pytest.raises(ConfigurationError, match="still wait for their upload"):
        opening.open()
    assert cache_lock.is_free(opening.spec)
    assert opening.seen == []


def test_it_may_fork_for_that(opening):
    before = threading.active_count()

    def look(*_: object) -> None:
        opening.seen.append(threading.active_count() == before)
        raise LookedError

    opening._look = look
    with pytest.raises(LookedError):
        opening.open(listen="127.0.0.1:0")
    assert opening.seen == [True]
