"""``mountkit run``: what the command wrote is in the bucket, and the exit code is the truth."""

from __future__ import annotations

import os
import signal
import stat
import sys
from typing import TYPE_CHECKING

import pytest
from light import checkpoint, many, named, noise, safetensors

from support.assertions import assert_proven, crc64
from support.rig import assert_same

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

# 2 GiB takes minutes on a small machine, so it runs only where it is asked for.
LARGE = [200 << 20, *([2 << 30] if os.environ.get("MOUNTKIT_TEST_BIG") else [])]


@pytest.mark.fault(4, 10, 26, 39)
def test_every_byte_is_in_the_bucket_when_the_script_ends_right_after_its_last_save(
    rig: Rig, bucket: Bucket
) -> None:
    command = rig.light("save:10", "save:20", "model:final model")
    answer = rig.run(f"s3://{bucket.name}/runs/run 1", command)
    assert answer.code == 0, answer
    assert_proven(bucket, "runs/run 1/checkpoint-10", checkpoint(10))
    assert_proven(bucket, "runs/run 1/checkpoint-20", checkpoint(20))
    final = bucket.files("runs/run 1/final model")
    assert final == {"model.safetensors": safetensors(0, 20_000)}
    client = bucket.client()
    for path, data in checkpoint(20).items():
        key = f"runs/run 1/checkpoint-20/{path}"
        assert client.get_object(Bucket=bucket.name, Key=key)["Body"].read() == data
    url = f"s3://{bucket.name}/runs/run 1/checkpoint-20"
    verified = rig.ask("verify", url)
    assert verified.code == 0, verified


@pytest.mark.fault(39)
def test_a_checkpoint_of_more_small_files_than_a_listing_has_at_once(
    rig: Rig, bucket: Bucket
) -> None:
    # A store lists a thousand, and then where to go on.
    answer = rig.run(f"s3://{bucket.name}", rig.light("many:10:1100"))
    assert answer.code == 0, answer
    assert_proven(bucket, "checkpoint-10", many(10, 1100))


@pytest.mark.parametrize("size", LARGE)
def test_a_large_file_is_proven(rig: Rig, bucket: Bucket, size: int) -> None:
    answer = rig.run(f"s3://{bucket.name}/run", rig.light(f"save:10:{size}"), limit=280)
    assert answer.code == 0, answer
    path = bucket.disk / "run/checkpoint-10/model.safetensors"
    expected = safetensors(10, size)
    assert path.stat().st_size == len(expected)
    assert path.read_bytes() == expected
    manifest = bucket.manifest("run/checkpoint-10")
    assert manifest is not None
    listed = {entry["path"]: entry["crc64nvme"] for entry in manifest["files"]}
    assert listed["model.safetensors"] == crc64(expected)


def test_the_commands_own_code_is_passed_on_and_its_checkpoint_is_proven(
    rig: Rig, bucket: Bucket
) -> None:
    answer = rig.run(f"s3://{bucket.name}/run", rig.light("save:10", "exit:3"))
    assert answer.code == 3, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


BRIEFLY = """
import sys
from pathlib import Path
for number in range(200):
    path = Path(sys.argv[1]) / f"lock-{number}"
    path.write_bytes(b"x" * 1000)
    path.unlink()
"""


@pytest.mark.fault(10)
def test_a_file_that_is_removed_as_soon_as_it_was_written_is_not_missed(
    rig: Rig, bucket: Bucket
) -> None:
    answer = rig.run(f"s3://{bucket.name}/run", [sys.executable, "-c", BRIEFLY, str(rig.target)])
    assert answer.code == 0, answer
    assert bucket.everything("run") == {}


@pytest.mark.fault(5)
def test_a_command_that_a_signal_ends_gives_128_more_and_no_manifest_to_a_torn_save(
    rig: Rig, bucket: Bucket
) -> None:
    command = rig.light("save:10", "torn:20", f"signal:{signal.SIGKILL.value}")
    answer = rig.run(f"s3://{bucket.name}/run", command)
    assert answer.code == 128 + signal.SIGKILL, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    # Nothing of it is lost, but nobody may resume from it.
    torn = checkpoint(20)
    del torn["trainer_state.json"]
    assert_same(bucket.everything("run/checkpoint-20"), torn)


@pytest.mark.fault(5)
def test_sigterm_is_forwarded_and_what_was_saved_is_drained(rig: Rig, bucket: Bucket) -> None:
    command = rig.light("save:10", "say:saved", "wait:never")
    # Nothing is uploaded before the drain.
    job = rig.begin(f"s3://{bucket.name}/run", command, *rig.late)
    rig.await_word("saved", job)
    job.process.send_signal(signal.SIGTERM)
    answer = job.wait()
    assert answer.code == 128 + signal.SIGTERM, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(39)
@pytest.mark.parametrize("name", ["two\nlines.txt", "a\ttab.txt", "back\\slash.txt", "\udcff.bin"])
def test_a_strange_name_is_kept_or_refused_by_name(rig: Rig, bucket: Bucket, name: str) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    command = rig.light("save:10", f"name:20:{name.encode(errors='surrogateescape').hex()}")
    answer = rig.run(f"s3://{bucket.name}/run", command)
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    if answer.code == 0:
        assert_proven(bucket, "run/checkpoint-20", named(20, name))
        url = f"s3://{bucket.name}/run/checkpoint-20"
        verified = rig.ask("verify", url)
        assert verified.code == 0, verified
        assert "not in the manifest" not in verified.err
        return
    # The mount refused the name, so that the program failed; or mountkit does.
    assert answer.code in {1, 75}, answer
    assert repr(name)[1:-1] in answer.err, answer
    assert bucket.manifest("run/checkpoint-20") is None


@pytest.mark.fault(39)
def test_names_that_only_look_the_same_are_two_files(rig: Rig, bucket: Bucket) -> None:
    names = ["caf\u00e9.bin", "cafe\u0301.bin"]
    actions = [f"name:{step}:{name.encode().hex()}" for step in (10, 20) for name in names]
    answer = rig.run(f"s3://{bucket.name}/run", rig.light(*actions))
    assert answer.code == 0, answer
    for step in (10, 20):
        both = {**named(step, names[0]), **named(step, names[1])}
        assert_proven(bucket, f"run/checkpoint-{step}", both)


def test_a_checkpoint_that_is_written_again_is_proven_anew(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    assert rig.run(source, rig.light("save:10:1000")).code == 0
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10, 1000))
    answer = rig.run(source, rig.light("save:10:2000"))
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10, 2000))


def test_a_target_with_spaces_and_unicode_and_a_link_above_it(rig: Rig, bucket: Bucket) -> None:
    (rig.work / "real").mkdir()
    (rig.work / "link").symlink_to(rig.work / "real")
    target = rig.work / "link" / "ünï code" / "out put 日本"
    command = rig.light("save:10", target=target)
    answer = rig.run(f"s3://{bucket.name}/a b/ü", command, target=target)
    assert answer.code == 0, answer
    assert_proven(bucket, "a b/ü/checkpoint-10", checkpoint(10))


def test_the_target_is_empty_afterwards_and_may_be_used_again(rig: Rig, bucket: Bucket) -> None:
    rig.target.mkdir()
    answer = rig.run(f"s3://{bucket.name}/run", rig.light("save:10"))
    assert answer.code == 0, answer
    assert list(rig.target.iterdir()) == []
    assert stat.S_ISDIR(rig.target.stat().st_mode)


def test_without_a_bucket_the_command_simply_runs(rig: Rig) -> None:
    words = rig.light("save:10", "exit:4")
    answer = rig.mountkit("run", "--", *words)
    assert answer.code == 4, answer
    assert (rig.target / "checkpoint-10/tilde~").read_bytes() == noise(10, "tilde~", 500)


def test_source_and_target_may_come_from_the_environment(rig: Rig, bucket: Bucket) -> None:
    rig.settings = {
        "MOUNTKIT_SOURCE": f"s3://{bucket.name}/run",
        "MOUNTKIT_TARGET": str(rig.target),
        "MOUNTKIT_ENDPOINT_URL": rig.server.endpoint_url,
        "MOUNTKIT_BACKEND": rig.backend,
    }
    answer = rig.mountkit("run", "--", *rig.light("save:10"))
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(7, 11, 22)
def test_a_pipe_that_ends_well_says_nothing_of_what_died_in_it(rig: Rig, bucket: Bucket) -> None:
    words = " ".join(rig.light("save:10", "torn:20", f"signal:{signal.SIGKILL.value}"))
    command = ["bash", "-c", f"{words} | tee {rig.work}/log"]
    answer = rig.run(f"s3://{bucket.name}/run", command)
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert bucket.manifest("run/checkpoint-20") is None


@pytest.mark.fault(4)
def test_nobody_reading_what_it_says_does_not_cut_the_drain_short(rig: Rig, bucket: Bucket) -> None:
    words = [rig.python, "-m", "mountkit", "run", f"s3://{bucket.name}/run", str(rig.target)]
    words += [*rig.how(), *rig.late, "--", *rig.light("save:10")]
    line = " ".join(f"'{word}'" for word in words)
    answer = rig.start("bash", "-c", f"set -o pipefail; {line} 2>&1 | true").wait()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.cached
@pytest.mark.fault(13)
def test_another_cache_directory_does_not_orphan_what_waits(rig: Rig, bucket: Bucket) -> None:
    gate = rig.gate()
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    source = f"s3://{bucket.name}/run"
    command = rig.light("save:10", "say:saved", "wait:go")
    job = rig.begin(source, command, *rig.late, endpoint=gate.url)
    rig.await_word("saved", job)
    gate.shut()
    rig.say("go")
    assert job.wait().code == 75
    gate.open()
    elsewhere = ("--cache-dir", str(rig.work / "elsewhere"))
    refused = rig.run(source, rig.light("exit:0"), *elsewhere, endpoint=gate.url)
    assert refused.code == 78, refused
    assert str(rig.cache) in refused.err
    answer = rig.run(source, rig.light("exit:0"), endpoint=gate.url)
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
