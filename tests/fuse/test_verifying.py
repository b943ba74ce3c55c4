"""``verify`` and ``latest``, by URL and by mounted path, over a bucket that somebody altered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.rig import MANIFEST, Bucket, Rig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.rig import Answer, Server

VICTIM = "sub folder/deep er/adapter model.safetensors"


@pytest.fixture(scope="module")
def original(fuse: None, backend: str, server: Server) -> Iterator[dict[str, bytes]]:
    """Three proven checkpoints and one that is none, to be copied."""
    rig = Rig.make(backend, server)
    try:
        bucket = rig.bucket()
        command = rig.light("save:8", "save:9", "save:10", "torn:11", "signal:9")
        answer = rig.run(f"s3://{bucket.name}/run", command)
        assert answer.code == 128 + 9, answer
        assert rig.left() == []
        yield bucket.everything()
    finally:
        rig.sweep()


@pytest.fixture
def copied(bucket: Bucket, original: dict[str, bytes]) -> Bucket:
    for key, data in original.items():
        bucket.put(key, data)
    return bucket


def ask(rig: Rig, command: str, where: str, *options: str) -> Answer:
    return rig.ask(command, where, *options)


DAMAGES: dict[str, Callable[[Bucket, str], None]] = {
    "altered": Bucket.flip,
    "size": Bucket.truncate,
    "missing": Bucket.remove,
}


def test_nothing_altered(rig: Rig, copied: Bucket) -> None:
    url = f"s3://{copied.name}/run"
    verified = ask(rig, "verify", f"{url}/checkpoint-10", "--format", "json")
    assert verified.code == 0, verified
    assert verified.json["ok"] is True
    found = ask(rig, "latest", url)
    # By number, not by name, and not the torn one.
    assert (found.code, found.out) == (0, f"{url}/checkpoint-10\n"), found


@pytest.mark.fault(32)
@pytest.mark.parametrize("problem", list(DAMAGES))
def test_one_file_altered_in_the_store(rig: Rig, copied: Bucket, problem: str) -> None:
    DAMAGES[problem](copied, f"run/checkpoint-10/{VICTIM}")
    url = f"s3://{copied.name}/run"
    verified = ask(rig, "verify", f"{url}/checkpoint-10")
    assert verified.code == 74, verified
    assert VICTIM in verified.err
    told = ask(rig, "verify", f"{url}/checkpoint-10", "--format", "json")
    assert told.code == 74, told
    bad = [(file["path"], file["problem"]) for file in told.json["files"] if file["problem"]]
    assert bad == [(VICTIM, problem)]
    found = ask(rig, "latest", url)
    assert (found.code, found.out) == (0, f"{url}/checkpoint-9\n"), found
    assert "checkpoint-10" in found.err
    assert VICTIM in found.err


@pytest.mark.fault(32)
def test_an_emptied_file_and_one_too_many(rig: Rig, copied: Bucket) -> None:
    copied.put("run/checkpoint-10/model.safetensors", b"")
    copied.put("run/checkpoint-10/intruder", b"not in the manifest")
    verified = ask(rig, "verify", f"s3://{copied.name}/run/checkpoint-10")
    assert verified.code == 74, verified
    assert "model.safetensors" in verified.err
    assert "intruder" in verified.err


@pytest.mark.fault(22, 32)
def test_without_a_manifest_it_is_no_checkpoint(rig: Rig, copied: Bucket) -> None:
    url = f"s3://{copied.name}/run"
    torn = ask(rig, "verify", f"{url}/checkpoint-11")
    assert torn.code == 74, torn
    for step in (8, 9, 10):
        copied.remove(f"run/checkpoint-{step}/{MANIFEST}")
    found = ask(rig, "latest", url)
    assert (found.code, found.out) == (1, ""), found


@pytest.mark.fault(23)
def test_the_first_run_has_no_latest(rig: Rig, bucket: Bucket) -> None:
    found = ask(rig, "latest", f"s3://{bucket.name}/not there yet")
    assert (found.code, found.out) == (1, ""), found


@pytest.mark.fault(32)
def test_by_the_mounted_path(rig: Rig, copied: Bucket) -> None:
    source = f"s3://{copied.name}/run"
    assert rig.mount(source).code == 0
    found = rig.mountkit("latest", rig.target)
    assert (found.code, found.out) == (0, f"{rig.target}/checkpoint-10\n"), found
    assert rig.mountkit("verify", rig.target / "checkpoint-10").code == 0
    copied.flip(f"run/checkpoint-10/{VICTIM}")
    verified = rig.mountkit("verify", rig.target / "checkpoint-10")
    assert verified.code == 74, verified
    assert VICTIM in verified.err
    found = rig.mountkit("latest", rig.target)
    assert (found.code, found.out) == (0, f"{rig.target}/checkpoint-9\n"), found
    assert rig.umount().code == 0


def test_a_path_in_no_mount(rig: Rig) -> None:
    rig.target.mkdir()
    for command in ("verify", "latest"):
        answer = rig.mountkit(command, rig.target)
        assert answer.code == 78, answer
        assert str(rig.target) in answer.err


def test_read_back_finds_what_was_flipped(rig: Rig, copied: Bucket) -> None:
    copied.flip("run/checkpoint-10/optimizer.pt")
    url = f"s3://{copied.name}/run/checkpoint-10"
    verified = ask(rig, "verify", url, "--level", "readback", "--format", "json")
    assert verified.code == 74, verified
    assert {file["attested_by"] for file in verified.json["files"]} == {"read-back"}
    assert ask(rig, "verify", url.replace("-10", "-9"), "--level", "readback").code == 0
