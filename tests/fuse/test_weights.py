"""Weights of a real model: in shards, and on a store that does not take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.installed import needs
from support.proxy import Fault, Request
from support.rig import MANIFEST, assert_same
from support.training import Training, checkpoints

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

needs("transformers", "torch")


@pytest.mark.fault(1, 20, 21)
def test_sharded_weights_with_a_limit_and_a_resume(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    options = ["--save-steps", "2", "--limit", "2", "--shard", "20KB"]
    first = Training(rig)
    answer = rig.run(source, first.command("--steps", "6", *options))
    assert answer.code == 0, answer
    assert checkpoints(bucket) == {"checkpoint-4", "checkpoint-6"}
    second = Training(rig, "second")
    answer = rig.run(source, second.command("--steps", "8", *options))
    assert answer.code == 0, answer
    assert second.report["resumed_from"] == str(rig.target / "checkpoint-6")
    files = second.written(8, weights="model.safetensors.index.json")
    shards = [path for path in files if path.startswith("model-0")]
    assert len(shards) > 1
    assert_same(bucket.files("run/checkpoint-8"), files)
    for step in (6, 8):
        url = f"{source}/checkpoint-{step}"
        verified = rig.ask("verify", url, "--level", "readback")
        assert verified.code == 0, verified


@pytest.mark.uncached
@pytest.mark.fault(1)
def test_what_was_written_is_what_the_manifest_says(rig: Rig, bucket: Bucket) -> None:
    training = Training(rig)
    command = training.from_the_start("--steps", "2", "--save-steps", "2")
    answer = rig.run(f"s3://{bucket.name}/run", command)
    assert answer.code == 0, answer
    training.assert_proven(bucket, 2)
    manifest = bucket.manifest("run/checkpoint-2")
    assert manifest is not None
    taken = {entry["path"]: entry["reference"] for entry in manifest["files"]}
    # Taken while they were written, by the writers that mountkit puts in their place.
    assert taken["model.safetensors"] == "write"
    assert taken["optimizer.pt"] == "write"
    assert taken["trainer_state.json"] == "mount"
    assert {entry["attested_by"] for entry in manifest["files"]} == {"crc64nvme"}


REFUSED = Fault(403, "AccessDenied")


@pytest.mark.uncached
@pytest.mark.fault(2, 14, 18)
@pytest.mark.parametrize("callback", ["raise", "none"])
@pytest.mark.parametrize("request_of", ["partNumber=", "uploadId=", "uploads"])
def test_a_store_that_does_not_take_the_weights_is_an_error_with_their_name(
    rig: Rig, bucket: Bucket, request_of: str, callback: str
) -> None:
    def rule(request: Request) -> Fault | None:
        writes = request.method in {"PUT", "POST"} and request_of in request.query
        return REFUSED if writes and request.key.endswith("model.safetensors") else None

    proxy = rig.proxy()
    proxy.rule = rule
    training = Training(rig)
    options = ["--steps", "4", "--save-steps", "2", "--callback", callback]
    source, flags = f"s3://{bucket.name}/run", ["--no-attach"]
    answer = rig.run(source, training.command(*options), *flags, endpoint=proxy.url)
    assert answer.code == 1, answer
    training_said = answer.err.partition("the command ended")[0]
    errors = [line for line in training_said.splitlines() if line.startswith("OSError")]
    assert "checkpoint-2/model.safetensors could not be" in errors[-1], training_said
    assert "AccessDenied" in errors[-1], training_said
    assert not [path for path in bucket.everything() if path.endswith(MANIFEST)]
    assert training.report["saved"] == []


BROKEN_OFF = """
import sys
from mountkit.writers.hooks import HOOKS
path = sys.argv[1] + "/model.safetensors"
with HOOKS.target(path).open() as file:
    file.write(b"all of it")
with HOOKS.target(path).open() as file:
    file.write(b"half" * 1_000_000)
    raise RuntimeError("out of memory")
"""


@pytest.mark.uncached
@pytest.mark.fault(7)
def test_weights_that_are_broken_off_leave_the_old_ones(rig: Rig, bucket: Bucket) -> None:
    command = [rig.python, "-c", BROKEN_OFF, str(rig.target)]
    answer = rig.run(f"s3://{bucket.name}/run", command)
    assert answer.code == 1, answer
    assert "out of memory" in answer.err
    assert bucket.everything("run") == {"model.safetensors": b"all of it"}
    assert "not proven: model.safetensors" in answer.err


KILLED = """
import os, signal, sys
from mountkit.writers.hooks import HOOKS
file = HOOKS.target(sys.argv[1] + "/model.safetensors").open()
file.write(b"half" * 1_000_000)
file.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.uncached
@pytest.mark.fault(7, 11)
def test_weights_of_a_writer_that_was_killed_are_named(rig: Rig, bucket: Bucket) -> None:
    # The kernel closes the file for it, and Mountpoint uploads the half that is there.
    script = f"{rig.python} -c '{KILLED}' {rig.target}; true"
    answer = rig.run(f"s3://{bucket.name}/run", ["bash", "-c", script])
    assert answer.code == 75, answer
    assert "not proven: model.safetensors" in answer.err
