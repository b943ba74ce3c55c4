"""``mountkit prune`` against real servers: what it says, what it removes, and its exit codes."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from mountkit.checkpoints import lease_object
from mountkit.checkpoints.lease import Holder
from mountkit.checkpoints.manifest import FileEntry, Manifest
from mountkit.names import MANIFEST_NAME
from mountkit.store import checksums
from support import in_process

NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
DATA = b"weights" * 1000


def prove(place, step):
    name = f"checkpoint-{step}"
    for path in ("model", "sub folder/ränk 0.pth"):
        place.put(f"{name}/{path}", DATA)
    tag = place.store.stat(f"{name}/model").tag
    crc = checksums.digest_bytes(DATA).values["crc64nvme"]
    entries = tuple(
        FileEntry(path, len(DATA), crc, "write", "md5", tag)
        for path in ("model", "sub folder/ränk 0.pth")
    )
    url = place.store.source.child(name).url
    manifest = Manifest(step, NOW, url, entries, NOW + timedelta(minutes=step))
    place.store.put(f"{name}/{MANIFEST_NAME}", manifest.to_bytes())


@pytest.fixture
def prune(each_place, tmp_path):
    """Call the command on the test's place."""
    env = {**os.environ, "MOUNTKIT_STATE_DIR": str(tmp_path)}
    options = each_place.store.options
    where = ("--endpoint-url", options.endpoint_url, "--region", options.region)

    def call(*words, url=each_place.store.source.url):
        return in_process.invoke(["prune", url, *where, *words], env)

    return call


@pytest.mark.fault(20)
def test_what_it_says_is_what_it_does(each_place, prune):
    url = each_place.store.source.url
    for step in (2, 10, 9):
        prove(each_place, step)
    each_place.put("checkpoint-1/model", b"torn")
    each_place.put("final/model", b"the end")
    before = {item.path for item in each_place.store.list()}
    code, out, err = prune("--keep", "1", "--dry-run")
    assert (code, out) == (0, f"{url}/checkpoint-2\n{url}/checkpoint-9\n")
    assert "checkpoint-9 would be removed" in err
    assert "checkpoint-1 is not touched: it has no manifest" in err
    assert {item.path for item in each_place.store.list()} == before

    code, out, _ = prune("--keep", "1", "--format", "json")
    assert code == 0
    assert json.loads(out) == {
        "removed": [f"{url}/checkpoint-2", f"{url}/checkpoint-9"],
        "kept": [{"name": "checkpoint-10", "reason": "the newest that is intact"}],
        "untouched": [
            {"name": "checkpoint-1", "reason": "it has no manifest, so it was never proven"}
        ],
        "dry_run": False,
    }
    left = {item.path for item in each_place.store.list()}
    gone = ("checkpoint-2/", "checkpoint-9/")
    assert left == {path for path in before if not path.startswith(gone)}
    code, out, _ = prune("--keep", "1")
    assert (code, out) == (0, "")


def test_its_exit_codes(each_place, prune):
    assert prune("--keep", "1")[:2] == (1, "")
    for words in (("--keep", "0"), ("--keep", "-1"), ("--keep", "all"), ()):
        assert prune(*words)[0] == 2
    code, _, err = prune("--keep", "1", url="/mnt/run")
    assert code == 2
    assert "is no URL" in err
    prove(each_place, 2)
    each_place.store.delete(["checkpoint-2/model"])
    code, out, err = prune("--keep", "1")
    assert (code, out) == (74, "")
    assert "None of the 1 proven checkpoints" in err


@pytest.mark.fault(20, 36)
def test_while_a_run_writes_there_nothing_is_removed(each_place, prune):
    store = each_place.store
    for step in (2, 9):
        prove(each_place, step)
    other = Holder("node-b", 1, "ba9876543210", 7, "another boot")
    held = lease_object.take(store, other, lease_object.look(store), lambda: 0, wait=False)
    code, out, err = prune("--keep", "1")
    assert (code, out) == (69, "")
    assert "is in use: process 1 on node-b writes there" in err
    assert prune("--keep", "1", "--dry-run")[:2] == (0, f"{store.source.url}/checkpoint-2\n")
    lease_object.release(store, held)
    assert prune("--keep", "1")[:2] == (0, f"{store.source.url}/checkpoint-2\n")
