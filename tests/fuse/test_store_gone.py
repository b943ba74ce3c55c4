"""The store goes away: nobody exits with 0 over bytes that are not in the bucket."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from light import checkpoint

from mountkit.names import LEASE_NAME
from support.assertions import assert_proven
from support.proxy import Fault
from support.rig import MANIFEST, Bucket, assert_same, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.rig import Rig


@pytest.mark.uncached
@pytest.mark.fault(5, 34)
def test_what_was_uploaded_and_could_not_be_proven_is_named(rig: Rig, bucket: Bucket) -> None:
    gate = rig.gate()
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    command = rig.light("save:10", "say:saved", "wait:go")
    job = rig.begin(f"s3://{bucket.name}/run", command, endpoint=gate.url)
    rig.await_word("saved", job)
    gate.shut()
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "checkpoint-10/model.safetensors" in answer.err
    assert "checkpoint-10/trainer_state.json" in answer.err
    # It is all there, and nobody resumes from it before the next run has proven it.
    assert_same(bucket.everything("run/checkpoint-10"), checkpoint(10))
    gate.open()
    again = rig.run(f"s3://{bucket.name}/run", rig.light("exit:0"), endpoint=gate.url)
    assert again.code == 0, again
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.cached
@pytest.mark.fault(4, 5, 14)
def test_a_run_ends_with_75_and_names_the_files_and_the_next_one_brings_them(
    rig: Rig, bucket: Bucket
) -> None:
    gate = rig.gate()
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    source = f"s3://{bucket.name}/run"
    command = rig.light("save:10", "say:saved", "wait:go")
    job = rig.begin(source, command, *rig.late, endpoint=gate.url)
    rig.await_word("saved", job)
    gate.shut()
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "checkpoint-10/model.safetensors" in answer.err
    assert "checkpoint-10/trainer_state.json" in answer.err
    assert bucket.everything("run") == {}
    assert rig.mounts() == []

    gate.open()
    again = rig.run(source, rig.light("exit:0"), *rig.late, endpoint=gate.url)
    assert again.code == 0, again
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(5)
def test_the_commands_own_failure_wins_over_75(rig: Rig, bucket: Bucket) -> None:
    gate = rig.gate()
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    command = rig.light("save:10", "say:saved", "wait:go", "exit:3")
    job = rig.begin(f"s3://{bucket.name}/run", command, *rig.late, endpoint=gate.url)
    rig.await_word("saved", job)
    gate.shut()
    rig.say("go")
    answer = job.wait()
    assert answer.code == 3, answer
    assert "checkpoint-10/model.safetensors" in answer.err


@pytest.mark.fault(34)
def test_a_store_that_comes_back_during_the_drain_gets_everything(rig: Rig, bucket: Bucket) -> None:
    gate = rig.gate()
    command = rig.light("save:10", "say:saved", "wait:go")
    job = rig.begin(f"s3://{bucket.name}/run", command, *rig.late, endpoint=gate.url)
    rig.await_word("saved", job)
    gate.shut()
    rig.say("go")
    rig.await_text("making sure", job)
    # It has found out, and says so, before the store is back.
    rig.await_text(gate.url, job)
    gate.open()
    answer = job.wait()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(34)
def test_a_store_that_swallows_everything_ends_a_run_with_75(rig: Rig, bucket: Bucket) -> None:
    gate = rig.gate()
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    command = rig.light("save:10", "say:saved", "wait:go")
    job = rig.begin(f"s3://{bucket.name}/run", command, *rig.late, endpoint=gate.url)
    rig.await_word("saved", job)
    gate.swallow()
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "checkpoint-10/model.safetensors" in answer.err


DAMAGES: dict[str, Callable[[Bucket, str], None]] = {
    "altered": Bucket.flip,
    "lost": Bucket.remove,
}


@pytest.mark.fault(2, 3, 10)
@pytest.mark.parametrize("damage", list(DAMAGES))
def test_the_daemons_word_is_not_believed(rig: Rig, bucket: Bucket, damage: str) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    job = rig.begin(f"s3://{bucket.name}/run", rig.light("save:10", "say:saved", "wait:go"))
    rig.await_word("saved", job)
    # The daemon has uploaded it all by itself, and has no reason to do it again.
    eventually(lambda: bucket.files("run/checkpoint-10") == checkpoint(10), "uploaded")
    eventually(lambda: rig.pending() == 0, "done, by the daemon's own word")
    DAMAGES[damage](bucket, "run/checkpoint-10/optimizer.pt")
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "checkpoint-10/optimizer.pt" in answer.err
    assert "checkpoint-10/model.safetensors" not in answer.err
    assert bucket.manifest("run/checkpoint-10") is None


@pytest.mark.fault(5)
def test_umount_refuses_to_lose_data_unless_told_to(rig: Rig, bucket: Bucket) -> None:
    gate = rig.gate()
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    source = f"s3://{bucket.name}/run"
    assert rig.mount(source, *rig.late, endpoint=gate.url).code == 0
    rig.script("save:10")
    gate.shut()
    refused = rig.umount()
    assert refused.code == 75, refused
    assert "checkpoint-10/" in refused.err
    assert "--discard" in refused.err
    assert rig.mounts() == [str(rig.target)]

    discarded = rig.umount("--discard")
    assert discarded.code == 0, discarded
    assert rig.mounts() == []
    if rig.write_back:
        assert bucket.everything("run") == {}


@pytest.mark.fault(5)
def test_umount_succeeds_once_the_store_is_back(rig: Rig, bucket: Bucket) -> None:
    gate = rig.gate()
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    assert rig.mount(f"s3://{bucket.name}/run", *rig.late, endpoint=gate.url).code == 0
    rig.script("save:10")
    gate.shut()
    assert rig.umount().code == 75
    gate.open()
    answer = rig.umount()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(5, 34)
def test_within_the_grace_what_is_not_proven_is_named_with_its_size(
    rig: Rig, bucket: Bucket
) -> None:
    gate = rig.gate()
    command = rig.light("save:10", "say:saved", "wait:never")
    # Without it the drain would wait for the stall timeout, longer than this job may take.
    job = rig.begin(
        f"s3://{bucket.name}/run",
        command,
        *rig.late,
        "--grace",
        "6",
        endpoint=gate.url,
        limit=60,
    )
    rig.await_word("saved", job)
    gate.shut()
    job.process.send_signal(signal.SIGTERM)
    answer = job.wait()
    # The signal's own code would say that all went as its sender asked.
    assert answer.code == 75, answer
    size = len(checkpoint(10)["model.safetensors"])
    assert f"checkpoint-10/model.safetensors ({size:,} bytes)" in answer.err
    assert bucket.manifest("run/checkpoint-10") is None


@pytest.mark.fault(34)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_store_that_says_nothing_keeps_no_command_from_its_end(
    rig: Rig, bucket: Bucket, number: signal.Signals
) -> None:
    bucket.put("run/checkpoint-1/model.safetensors", b"x")
    proxy = rig.proxy()
    silent = Fault(delay=100.0)
    proxy.rule = lambda it: silent if it.key.endswith(".json") else None
    run = rig.begin(f"s3://{bucket.name}/run", rig.light("save:10"), endpoint=proxy.url)
    where = [f"s3://{bucket.name}/run", "--endpoint-url", proxy.url]
    latest = rig.start(rig.python, "-m", "mountkit", "latest", *where)

    def names() -> list[str]:
        return sorted(it.key.rpartition("/")[2] for it in proxy.asked if it.key.endswith(".json"))

    eventually(lambda: names() == [LEASE_NAME, MANIFEST, MANIFEST], "asked by both")
    for job in (run, latest):
        job.process.send_signal(number)
        # A request would be given up after a minute.
        eventually(job.ended, "ended", 30)
        assert job.wait().code == 128 + number


@pytest.mark.uncached
@pytest.mark.fault(5, 14)
def test_a_command_that_waits_for_the_store_does_not_outlast_the_grace(
    rig: Rig, bucket: Bucket
) -> None:
    proxy = rig.proxy()
    silent = Fault(delay=100.0)
    proxy.rule = lambda it: silent if it.key.endswith("model.safetensors") else None
    command = rig.light("save:10")
    job = rig.begin(f"s3://{bucket.name}/run", command, "--grace", "20", endpoint=proxy.url)
    eventually(lambda: proxy.faults, "asked")
    job.process.send_signal(signal.SIGTERM)
    answer = job.wait()
    assert answer.code == 128 + signal.SIGKILL, answer
    assert "is not waited for; what it was writing is not in the store" in answer.err
    assert bucket.manifest("run/checkpoint-10") is None
