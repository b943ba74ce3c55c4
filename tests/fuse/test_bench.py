"""``mountkit bench`` on a real store that both backends work on. Nothing here is about how fast."""

from __future__ import annotations

import re
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from mountkit import backends
from support.proxy import Fault, Request
from support.rig import MOUNTING, eventually

if TYPE_CHECKING:
    from support.rig import Answer, Bucket, Job, Rig

# Mountpoint cannot upload to rclone's server; both can to the one that its tests use.
pytestmark = pytest.mark.parametrize("backend", ["mountpoint"], indirect=True)

SMALL = ("--size", "3MB", "--rounds", "2")


def begin(rig: Rig, *words: Any, endpoint: str = "", **env: str | None) -> Job:
    scratch = rig.work / "tmp"
    scratch.mkdir(exist_ok=True)
    endpoint = endpoint or rig.server.endpoint_url
    command = [rig.python, "-m", "mountkit", "bench", *words, "--endpoint-url", endpoint]
    return rig.start(*command, TMPDIR=str(scratch), **env)


def bench(rig: Rig, bucket: Bucket, *words: Any, **more: Any) -> Answer:
    """The command to its end; whatever came of it, it may leave nothing."""
    answer = begin(rig, *words, **more).wait()
    assert "Traceback" not in answer.err
    assert "should not happen" not in answer.err
    clean(rig, bucket)
    return answer


def clean(rig: Rig, bucket: Bucket) -> None:
    assert rig.mounts() == []
    assert list((rig.work / "tmp").iterdir()) == []
    assert bucket.everything() == {}
    assert not bucket.client().list_multipart_uploads(Bucket=bucket.name).get("Uploads")
    assert not rig.cache.exists() or list(rig.cache.iterdir()) == []


def denied(rig: Rig, part: str) -> str:
    """The way to a store that takes nothing below directories with ``part`` in their path."""
    proxy = rig.proxy()

    def rule(request: Request) -> Fault | None:
        writes = request.method in {"PUT", "POST"} and "delete" not in request.query
        return Fault(403, "AccessDenied") if writes and part in request.key else None

    proxy.rule = rule
    return proxy.url


def test_both_backends(rig: Rig, bucket: Bucket) -> None:
    answer = bench(rig, bucket, f"s3://{bucket.name}/run", *SMALL, "--format", "json")
    assert answer.code == 0, answer
    told = answer.json
    assert told["source"] == f"s3://{bucket.name}/run"
    assert told["size"] == 3_000_000
    assert told["rounds"] == 2
    assert told["local"]["save_seconds"] > 0
    assert [each["backend"] for each in told["backends"]] == list(MOUNTING)
    assert told["not_measured"] == told["left"] == []
    for each in told["backends"]:
        assert set(each["refuses"]) == backends.load(each["backend"]).unsupported_operations
        assert re.fullmatch(r"\d+\.\d+\.\d+", each["version"])
        assert len(each["rounds"]) == 2
        for figures in (each, *each["rounds"]):
            assert 0 < figures["save_seconds"] <= figures["proven_seconds"]
            assert figures["recovery_seconds"] > 0
        assert each["save_ratio"] > 0
        assert each["megabytes_per_second"] > 0
    chosen = told["recommendation"]
    assert chosen["backend"] in MOUNTING
    assert chosen["flag"] == f"--backend {chosen['backend']}"
    assert chosen["why"]
    assert not any(rig.state.iterdir()), "a state directory stayed"


def test_what_people_see(rig: Rig, bucket: Bucket) -> None:
    bucket.put("thesis.txt", b"mine")
    words = (f"s3://{bucket.name}", "--size", "2MB", "--rounds", "1")
    answer = begin(rig, *words, COLUMNS="80").wait()
    assert answer.code == 0, answer
    assert max(map(len, answer.out.splitlines())) <= 80
    text = " ".join(answer.out.split())
    assert re.search(r"Use --backend (rclone|mountpoint): .+\.$", text)
    assert re.search("mountpoint cannot .*rename a file", text)
    for name in MOUNTING:
        assert f"round 1/1, {name}: " in answer.err
    assert bucket.everything() == {"thesis.txt": b"mine"}


def test_one_that_is_not_installed(rig: Rig, bucket: Bucket) -> None:
    # rclone may be beside the interpreter, and needs no PATH then.
    rclone = ["rclone"] if shutil.which("rclone") else []
    answer = bench(
        rig,
        bucket,
        f"s3://{bucket.name}/run",
        *SMALL,
        "--format",
        "json",
        PATH=rig.tools("fusermount3", *rclone),
    )
    assert answer.code == 0, answer
    assert [each["backend"] for each in answer.json["backends"]] == ["rclone"]
    [missed] = answer.json["not_measured"]
    assert missed["backend"] == "mountpoint"
    assert "mount-s3" in missed["problem"]
    assert missed["hint"]
    assert answer.json["recommendation"]["flag"] == "--backend rclone"


@pytest.mark.fault(18)
def test_a_store_that_takes_nothing(rig: Rig, bucket: Bucket) -> None:
    answer = bench(rig, bucket, f"s3://{bucket.name}/run", *SMALL, endpoint=denied(rig, "/run/"))
    assert answer.code == 77, answer
    assert "s3:PutObject" in answer.err


@pytest.mark.fault(18)
@pytest.mark.parametrize("refused", MOUNTING)
def test_a_store_that_refuses_one_of_them(rig: Rig, bucket: Bucket, refused: str) -> None:
    """In the middle: the first round is over, and the second save is not taken."""
    endpoint = denied(rig, f"/{refused}/checkpoint-2/model.safetensors")
    answer = bench(
        rig, bucket, f"s3://{bucket.name}/run", *SMALL, "--format", "json", endpoint=endpoint
    )
    assert answer.code == 0, answer
    [measured] = answer.json["backends"]
    [missed] = answer.json["not_measured"]
    assert missed["backend"] == refused
    assert measured["backend"] != refused
    assert "AccessDenied" in missed["problem"] or "denied" in missed["problem"], missed
    assert answer.json["recommendation"]["backend"] == measured["backend"]


def test_a_store_that_refuses_both(rig: Rig, bucket: Bucket) -> None:
    endpoint = denied(rig, "/checkpoint-1/model.safetensors")
    answer = bench(
        rig, bucket, f"s3://{bucket.name}/run", *SMALL, "--format", "json", endpoint=endpoint
    )
    assert answer.code in {69, 77}, answer
    assert answer.json["error"]["code"] == answer.code
    assert "model.safetensors" in answer.json["error"]["message"]


@pytest.mark.parametrize("at", MOUNTING)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_an_upload(
    rig: Rig, bucket: Bucket, at: str, number: signal.Signals
) -> None:
    """Its parts are in no listing, stay where nobody removes them, and are paid for."""
    job = begin(rig, f"s3://{bucket.name}/run", "--size", "400MB", "--rounds", "1")

    def uploading() -> bool:
        found = bucket.client().list_multipart_uploads(Bucket=bucket.name).get("Uploads", ())
        return any(f"/{at}/checkpoint-1/" in upload["Key"] for upload in found)

    eventually(lambda: uploading() or job.ended(), "uploading")
    job.process.send_signal(number)
    answer = job.wait()
    assert answer.code == 128 + number, answer
    assert "Traceback" not in answer.err
    assert "not taken away" not in answer.err
    clean(rig, bucket)


def test_what_a_killed_daemon_leaves_of_an_upload_is_removed(rig: Rig, bucket: Bucket) -> None:
    job = begin(rig, f"s3://{bucket.name}/run", "--size", "1MB", "--rounds", "1")
    rig.await_text("writing below", job)
    found = re.search(rf"s3://{bucket.name}/(run/\.mountkit-bench-\w+)", job.err)
    assert found is not None
    key = f"{found[1]}/rclone/checkpoint-1/half"
    upload = bucket.client().create_multipart_upload(Bucket=bucket.name, Key=key)
    part = {"Bucket": bucket.name, "Key": key, "UploadId": upload["UploadId"], "PartNumber": 1}
    bucket.client().upload_part(**part, Body=b"half of it")
    answer = job.wait()
    assert answer.code == 0, answer
    clean(rig, bucket)


def test_a_store_that_is_gone_in_the_end_is_told_of(rig: Rig, bucket: Bucket) -> None:
    """What was written cannot be removed, so it is named."""
    gate = rig.gate()
    job = begin(
        rig,
        f"s3://{bucket.name}/run",
        "--size",
        "1MB",
        endpoint=gate.url,
        MOUNTKIT_STALL_TIMEOUT="1",
    )
    rig.await_text("round 1/3, rclone", job)
    gate.shut()
    answer = job.wait()
    assert answer.code == 69, answer
    assert re.search(rf"not taken away: s3://{bucket.name}/run/\.mountkit-bench-", answer.err)
    assert rig.mounts() == []
