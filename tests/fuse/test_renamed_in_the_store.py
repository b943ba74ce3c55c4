"""Files that are in the store only, and that a run renames there: a copy is young, and not new."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from light import checkpoint

from mountkit.names import LEASE_NAME
from support import versity
from support.rig import MANIFEST, assert_same, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.rig import Bucket, Rig

pytestmark = pytest.mark.cached

HEAD = """
import os, shutil, sys, time
from pathlib import Path
top = Path(sys.argv[1])

def write(name, data):
    (top / name).parent.mkdir(exist_ok=True)
    (top / name).write_bytes(data)

def wait_for(name):
    while not Path(sys.argv[2], name).exists():
        time.sleep(0.02)
"""

BEFORE = """
write("train.log", b"old" * 1000)
write("one/a", b"a" * 4000)
write("one/b", b"b")
write("from/moved", b"moved")
write("from/copied", b"copied")
write("over.new", b"new")
write("over", b"old")
"""

RENAMED = """
os.rename(top / "train.log", top / "train.log.1")
write("train.log", b"new")
os.rename(top / "one", top / "two")
(top / "to").mkdir()
shutil.move(top / "from/moved", top / "to/moved")
shutil.copy(top / "from/copied", top / "to/copied")
os.rename(top / "over.new", top / "over")
os.rename(top / "checkpoint-10", top / "best")
(top / "kept").mkdir()
os.rename(top / "checkpoint-20", top / "kept/checkpoint-20")
"""

AFTERWARDS = {
    "train.log.1": b"old" * 1000,
    "train.log": b"new",
    "two/a": b"a" * 4000,
    "two/b": b"b",
    "from/copied": b"copied",
    "to/moved": b"moved",
    "to/copied": b"copied",
    "over": b"new",
    **{f"best/{name}": data for name, data in checkpoint(10).items()},
    **{f"kept/checkpoint-20/{name}": data for name, data in checkpoint(20).items()},
}


class Served(NamedTuple):
    """A store that is somebody else's process, or thread."""

    endpoint_url: str
    data: Path
    access_key: str = "testing"
    secret_key: str = "testing"


@pytest.fixture(params=["moto", "versitygw"])
def rig(
    request: pytest.FixtureRequest, make_rig: Callable[[Any], Rig], tmp_path: Path
) -> Iterator[Rig]:
    """On the stores that date a copy by when it was made."""
    if request.param == "moto":
        server_module = pytest.importorskip("moto.server", reason="moto is not installed")
        server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield make_rig(Served(f"http://{host}:{port}", tmp_path / "store"))
        server.stop()
        return
    with versity.Versity(tmp_path / "store", versity.program()) as served:
        yield make_rig(served)


def python(rig: Rig, code: str) -> list[str]:
    return [sys.executable, "-c", HEAD + code, str(rig.target), str(rig.gates)]


def objects(bucket: Bucket) -> dict[str, bytes]:
    """What the store has, without mountkit's own objects; moto keeps nothing on a disk."""
    client = bucket.client()
    listed = client.list_objects_v2(Bucket=bucket.name, Prefix="run/").get("Contents", [])
    keys = [item["Key"] for item in listed if not item["Key"].endswith(("/", LEASE_NAME, MANIFEST))]
    return {
        key.removeprefix("run/"): client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
        for key in keys
    }


@pytest.mark.fault(45)
def test_what_an_earlier_run_had_uploaded_may_be_renamed(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    first = rig.run(source, rig.light("save:10", "save:20"))
    assert first.code == 0, first
    first = rig.run(source, python(rig, BEFORE))
    assert first.code == 0, first
    answer = rig.run(source, python(rig, RENAMED))
    assert answer.code == 0, answer
    assert_same(objects(bucket), AFTERWARDS)
    again = rig.run(source, rig.light("exit:0"))
    assert again.code == 0, again
    # A proven checkpoint that was moved elsewhere is one there.
    newest = rig.ask("latest", f"{source}/kept")
    assert newest.out.strip() == f"{source}/kept/checkpoint-20", newest
    verified = rig.ask("verify", f"{source}/best")
    assert verified.code == 0, verified


@pytest.mark.fault(15, 45)
def test_what_this_run_wrote_over_it_and_renamed_then_is_named(rig: Rig, bucket: Bucket) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    source = f"s3://{bucket.name}/run"
    first = rig.run(source, python(rig, 'write("train.log", b"old")\nwrite("other", b"old")'))
    assert first.code == 0, first
    code = """
write("train.log", b"this run's")
Path(sys.argv[2], "written").touch()
wait_for("taken away")
os.rename(top / "train.log", top / "train.log.1")
os.rename(top / "other", top / "other.1")
"""
    job = rig.begin(source, python(rig, code))
    rig.await_word("written", job)
    eventually(lambda: objects(bucket)["train.log"] == b"this run's", "uploaded")
    eventually(lambda: rig.pending() == 0, "done with it")
    # As a disk that runs full makes rclone do.
    for path in rig.cache.rglob("train.log"):
        path.unlink()
    rig.say("taken away")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "train.log.1 (10 bytes)" in answer.err
    assert "other.1" not in answer.err
