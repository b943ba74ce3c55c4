"""Which caches are told of when a mount is made, and in what words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mountkit.mounts import waiting_caches
from mountkit.spec import MountSpec, StoreOptions
from mountkit.state import cache_lock
from mountkit.state.registry import State
from mountkit.store import parse

if TYPE_CHECKING:
    from pathlib import Path

STORE = StoreOptions("http://127.0.0.1:1", None, "me")


def mount(root: Path, url: str, target: str = "/new", store: StoreOptions = STORE) -> MountSpec:
    spec = MountSpec(parse(url), target, "rclone", store, "")
    return replace(spec, cache_dir=str(root / spec.id))


def leave(spec: MountSpec, *names: str, signed: bool = True) -> None:
    """Files in the cache of a mount that was killed."""
    place = f"mountkit/{spec.source.bucket}/{spec.source.prefix}".rstrip("/")
    for name in names:
        for tree, text in (("vfs", "12345"), ("vfsMeta", info(dirty=True))):
            path = waiting_caches.Path(spec.cache_dir) / tree / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if signed:
        cache_lock.sign(spec)


def info(*, dirty: bool) -> str:
    changed = "2026-01-02T03:04:05Z"
    ranges = [{"Pos": 0, "Size": 5}]
    return json.dumps({"ModTime": changed, "Size": 5, "Rs": ranges, "Dirty": dirty})


@pytest.fixture
def known(tmp_path) -> State:
    return State(tmp_path / "s")


@pytest.mark.fault(13)
class TestWhich:
    @pytest.mark.parametrize(
        ("there", "here", "told"),
        [
            ("s3://b/run", "s3://b/run", True),
            ("s3://b/run", "s3://b", True),
            ("s3://b", "s3://b/run", True),
            ("s3://b/run/x", "s3://b/run", True),
            ("s3://b/run", "s3://b/run-2", False),
            ("s3://b/run-2", "s3://b/run", False),
            ("s3://c/run", "s3://b/run", False),
        ],
    )
    def test_those_of_what_overlaps(self, tmp_path, known, there, here, told):
        leave(mount(tmp_path, there, "/old"), "a", "b/c")
        found = waiting_caches.waiting(known, tmp_path, mount(tmp_path, here))
        assert [(cache.files, cache.bytes) for cache in found] == ([(2, 10)] if told else [])

    @pytest.mark.parametrize(
        "store", [StoreOptions(), StoreOptions("http://localhost:1"), StoreOptions(profile="me")]
    )
    def test_however_the_store_is_called_and_at_the_same_target(self, tmp_path, known, store):
        leave(mount(tmp_path, "s3://b/run", "/old"), "a")
        assert waiting_caches.waiting(known, tmp_path, mount(tmp_path, "s3://b/run", "/old", store))

    def test_not_its_own(self, tmp_path, known):
        spec = mount(tmp_path, "s3://b/run")
        leave(spec, "a")
        assert waiting_caches.waiting(known, tmp_path, spec) == ()
        assert waiting_caches.waiting(known, tmp_path)
        assert waiting_caches.waiting(known, tmp_path, without=[spec.cache_dir]) == ()

    def test_nor_what_waits_for_nothing(self, tmp_path, known):
        spec = mount(tmp_path, "s3://b/run", "/old")
        leave(spec, "a")
        (record,) = tmp_path.rglob("vfsMeta/**/a")
        record.write_text(info(dirty=False))
        assert waiting_caches.waiting(known, tmp_path) == ()
        assert waiting_caches.waiting(known, tmp_path / "is not there") == ()

    @pytest.mark.parametrize("text", ["", "[]", '{"source": "b"}'])
    def test_one_that_says_nonsense_of_itself_is_told_by_its_layout(self, tmp_path, known, text):
        spec = mount(tmp_path, "s3://b/run", "/old")
        leave(spec, "a")
        (tmp_path / spec.id / "mount.json").write_text(text)
        (found,) = waiting_caches.waiting(known, tmp_path, mount(tmp_path, "s3://b/run"))
        assert (found.files, found.target, found.command) == (1, "", "")


@pytest.mark.fault(13)
class TestWords:
    def test_how_much_where_since_when_and_what_to_do(self, tmp_path, known):
        spec = mount(tmp_path, "s3://b/a run", "/the old/one")
        leave(spec, "a", "b")
        text = str(waiting_caches.waiting(known, tmp_path)[0])
        assert text.startswith("2 files (10 bytes) of a mount at /the old/one wait")
        assert "since 2026-01-02T03:04:05" in text
        assert spec.cache_dir in text
        assert text.endswith(
            "mountkit run 's3://b/a run' '/the old/one' --backend rclone --endpoint-url "
            f"http://127.0.0.1:1 --profile me --cache-dir {tmp_path} -- true"
        )

    def test_what_a_process_has_is_left_to_it(self, tmp_path, known):
        spec = mount(tmp_path, "s3://b/run", "/old")
        leave(spec, "a")
        lock = cache_lock.acquire(spec)
        try:
            (found,) = waiting_caches.waiting(known, tmp_path)
        finally:
            lock.release()
        assert found.held
        assert "--backend" not in str(found)

    def test_of_an_earlier_version_the_target_is_not_known(self, tmp_path, known):
        leave(mount(tmp_path, "s3://b/run", "/old"), "a", signed=False)
        (found,) = waiting_caches.waiting(known, tmp_path, mount(tmp_path, "s3://b/run"))
        assert "1 file (5 bytes) of another mount" in str(found)
        assert "where it was mounted then" in str(found)
