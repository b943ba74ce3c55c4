"""Seen from outside: health and metrics over HTTP, ``status``, and the log for machines."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from light import checkpoint

from mountkit._version import __version__
from mountkit.monitoring import metrics
from support.proxy import Fault
from support.rig import eventually
from support.scrape import Scrape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.rig import Answer, Bucket, Job, Rig

JSON_LOG = ("--log-format", "json")
# What the callback does in the process of the training, without the training.
PROVE = """
import sys
from mountkit.config import settings, timeouts
from mountkit.events import silent
from mountkit.mounts.mount import Mount
from mountkit.proof.committer import Prover

target, step, *files = sys.argv[1:]
limits = timeouts.limits(settings.load())
Prover(Mount.containing(target), "", limits, silent).prove(f"checkpoint-{step}", int(step), files)
"""


class Outside:
    """Who asks over HTTP, and never touches the mount."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.heard: list[str] = []

    @classmethod
    def of(cls, lines: Iterable[dict[str, Any]]) -> Outside:
        [url] = [line["url"] for line in lines if line["event"] == "EndpointStarted"]
        return cls(url)

    def ask(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                found = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            found = error.code, error.read().decode()
        self.heard.append(found[1])
        return found

    def code(self, path: str) -> int:
        return self.ask(path)[0]

    def metrics(self) -> Scrape:
        status, text = self.ask("/metrics")
        assert status == 200
        return Scrape(text)

    def remounts(self) -> dict[str, float]:
        found = self.metrics()
        return {
            cause: found.value("mountkit_remounts_total", reason=cause) for cause in metrics.CAUSES
        }

    def verifications(self) -> list[float]:
        """How many were proven, and how many failed."""
        found, name = self.metrics(), "mountkit_checkpoint_verifications_total"
        return [found.value(name, result=result) for result in metrics.RESULTS]


def logged(text: str) -> list[dict[str, Any]]:
    """A log of which every line is an object; the last may be half written."""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def begin(rig: Rig, bucket: Bucket, *options: str, **env: str) -> tuple[Job, Outside]:
    command = rig.light("save:10", "say:saved", "wait:go")
    how = [*options, "--listen", "0", *JSON_LOG]
    job = rig.begin(f"s3://{bucket.name}/run", command, *how, **env)
    rig.await_word("saved", job)
    return job, Outside.of(logged(job.err))


def prove(rig: Rig, *files: str, **env: str) -> Answer:
    words = [rig.python, "-c", PROVE, str(rig.target), "10", *files]
    return rig.start(*words, **env).wait()


def shown(rig: Rig) -> dict[str, Any]:
    told = rig.mountkit("status", rig.target, "--format", "json")
    assert told.code == 0, told
    [mount] = told.json["mounts"]
    return mount


def test_a_run_and_a_daemon_that_dies(rig: Rig, bucket: Bucket) -> None:
    # So that it stays away until the test has seen it.
    program, path = rig.place_program()
    rig.settings["MOUNTKIT_REMOUNT_ATTEMPTS"] = "1000"
    job, outside = begin(rig, bucket, PATH=path)
    assert outside.ask("/healthz") == (200, "ok\n")
    assert outside.ask("/readyz") == (200, "ok\n")
    found = outside.metrics()
    assert found.value("mountkit_mount_up") == 1
    assert found.value("mountkit_build_info", version=__version__, backend=rig.backend) == 1
    eventually(lambda: 0 < outside.metrics().value("mountkit_probe_duration_seconds") < 5, "asked")
    assert outside.remounts() == {"died": 0, "hung": 0, "unmounted": 0}

    program.unlink()
    rig.kill(rig.daemon())
    eventually(lambda: outside.code("/readyz") == 503, "not ready")
    eventually(lambda: "repairing: " in outside.ask("/readyz")[1], "told why")
    assert outside.ask("/healthz") == (200, "ok\n"), "there is hope"
    assert outside.metrics().value("mountkit_mount_up") == 0
    assert shown(rig)["state"] == "repairing"

    rig.put_program(program)
    eventually(lambda: outside.code("/readyz") == 200, "ready again")
    eventually(lambda: outside.remounts()["died"] == 1, "counted")
    assert outside.remounts() == {"died": 1, "hung": 0, "unmounted": 0}
    assert outside.metrics().value("mountkit_mount_up") == 1
    seen = shown(rig)
    assert (seen["state"], seen["remounts"]) == ("serving", 1)
    assert "SIGKILL" in seen["reason"]

    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    kinds = [line["event"] for line in logged(answer.err)]
    assert kinds.index("MountLost") < kinds.index("Remounted") < kinds.index("CheckpointProven")
    with pytest.raises(OSError, match="refused"):
        outside.ask("/healthz")
    assert not [text for text in outside.heard if rig.server.secret_key in text]
    scraped = "".join(text for text in outside.heard if "# HELP" in text)
    assert str(rig.target) not in scraped
    assert "checkpoint-10" not in scraped


def test_what_another_process_proves(rig: Rig, bucket: Bucket) -> None:
    job, outside = begin(rig, bucket)
    size = sum(map(len, checkpoint(10).values()))
    before = outside.metrics()
    assert before.value("mountkit_checkpoint_last_proven_timestamp_seconds") == 0
    assert before.value("mountkit_unproven_bytes") == size
    assert shown(rig)["unproven_files"] == len(checkpoint(10))

    failed = prove(rig, *checkpoint(10), "missing", MOUNTKIT_STALL_TIMEOUT="2")
    assert failed.code == 1, failed
    assert "checkpoint-10/missing" in failed.err
    assert outside.verifications() == [0, 1]
    error = shown(rig)["last_error"]
    assert "checkpoint-10/missing" in error["message"]
    assert not error["settled"]
    assert 0 <= error["age_seconds"] < 60

    began = time.time()
    proven = prove(rig, *checkpoint(10))
    assert proven.code == 0, proven
    after = outside.metrics()
    assert outside.verifications() == [1, 1]
    last = after.value("mountkit_checkpoint_last_proven_timestamp_seconds")
    assert began - 1 <= last <= time.time() + 1
    assert after.value("mountkit_unproven_bytes") == 0
    seen = shown(rig)
    assert (seen["last_proven"]["checkpoint"], seen["last_proven"]["step"]) == ("checkpoint-10", 10)
    assert 0 <= seen["last_proven"]["age_seconds"] < 60
    assert seen["last_error"]["settled"]
    assert (seen["pending_files"], seen["unproven_bytes"]) == (0, 0)
    human = rig.mountkit("status", rig.target).out
    assert "last proven  checkpoint-10, " in human
    assert "before the last proof: checkpoint-10 is not proven" in human
    rig.say("go")
    assert job.wait().code == 0


@pytest.mark.fault(8)
def test_a_daemon_that_hangs(rig: Rig, bucket: Bucket) -> None:
    # So that it stays away until the test has seen it.
    program, path = rig.place_program()
    rig.settings["MOUNTKIT_REMOUNT_ATTEMPTS"] = "1000"
    rig.settings["MOUNTKIT_PROBE_TIMEOUT"] = "1"
    job, outside = begin(rig, bucket, PATH=path)
    assert outside.code("/readyz") == 200
    program.unlink()
    daemon = rig.daemon()
    daemon.send_signal(signal.SIGSTOP)
    eventually(lambda: outside.code("/readyz") == 503, "not ready")
    assert outside.code("/healthz") == 200
    rig.put_program(program)
    eventually(lambda: outside.remounts()["hung"] == 1, "counted")
    eventually(lambda: outside.code("/readyz") == 200, "ready again")
    assert outside.remounts() == {"died": 0, "hung": 1, "unmounted": 0}
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer


def test_a_mount_that_is_given_up(rig: Rig, bucket: Bucket) -> None:
    program, path = rig.place_program()
    rig.settings["MOUNTKIT_REMOUNT_ATTEMPTS"] = "1"
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    job, outside = begin(rig, bucket, PATH=path)
    program.unlink()
    rig.kill(rig.daemon())
    eventually(lambda: outside.code("/healthz") == 503, "given up")
    status, why = outside.ask("/healthz")
    assert status == 503
    assert why.startswith("the mount is given up: 1 attempts failed")
    assert why.count("\n") == 1
    assert outside.code("/readyz") == 503
    assert outside.metrics().value("mountkit_mount_up") == 0
    assert outside.metrics().value("mountkit_mount_given_up") == 1
    human = rig.mountkit("status", rig.target)
    assert human.code == 69, human
    assert "given up" in human.out
    rig.say("go")
    assert job.wait().code in {0, 75}


@pytest.mark.cached
def test_a_store_that_refuses_uploads_is_shown_although_nobody_proves(
    rig: Rig, bucket: Bucket
) -> None:
    proxy = rig.proxy()
    assert rig.mount(f"s3://{bucket.name}/run", endpoint=proxy.url).code == 0
    assert shown(rig)["last_error"] is None
    refused = Fault(403, "AccessDenied")
    proxy.rule = lambda request: refused if request.method in {"PUT", "POST"} else None
    # Where a write waits for the store, it is the save itself that fails.
    rig.start(*rig.light("save:10")).wait()
    error = eventually(lambda: shown(rig)["last_error"], "told")
    assert "checkpoint-10/" in error["message"]
    assert "Denied" in error["message"] or "orbidden" in error["message"], error
    assert not error["settled"]
    assert "checkpoint-10/" in rig.mountkit("status", rig.target).out
    assert rig.umount("--discard").code == 0


def test_a_port_in_use_is_said_before_anything_is_mounted(rig: Rig, bucket: Bucket) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = rig.light("say:ran")
        answer = rig.run(f"s3://{bucket.name}/run", command, "--listen", f"127.0.0.1:{port}")
    assert answer.code == 78, answer
    assert f"Nothing can listen on 127.0.0.1:{port}" in answer.err
    assert not (rig.gates / "ran").exists()
    assert rig.mounts() == []
    assert rig.record() is None
    assert rig.run(f"s3://{bucket.name}/run", command).code == 0, "it left nothing behind"


def test_a_mount_in_the_background_and_its_log(rig: Rig, bucket: Bucket) -> None:
    mounted = rig.mount(f"s3://{bucket.name}/run", "--listen", "0", *JSON_LOG)
    assert mounted.code == 0, mounted
    assert [line["event"] for line in logged(mounted.err)] == ["Message"]
    record = rig.record()
    assert record is not None
    log = rig.state / record.spec.id / "supervisor.log"
    outside = Outside.of(logged(log.read_text()))
    assert outside.code("/readyz") == 200
    rig.script("save:10")
    # A daemon that is killed right after a save may not have logged all that it uploaded.
    eventually(lambda: rig.pending() == 0, "uploaded")
    rig.kill(rig.daemon())
    rig.await_remount()
    eventually(lambda: outside.remounts()["died"] == 1, "counted")
    ended = rig.umount()
    assert ended.code == 0, ended
    with pytest.raises(OSError, match="refused"):
        outside.ask("/healthz")
    assert rig.left() == []
    lines = logged(log.read_text())
    # That this store ignores conditional writes is said of the lease.
    lines = [line for line in lines if "lease" not in line.get("reason", "")]
    assert [line["event"] for line in lines] == ["EndpointStarted", "MountLost", "Remounted"]
    assert all(line["time"].endswith("Z") for line in lines)


def test_an_error_in_the_log_for_machines(rig: Rig, bucket: Bucket) -> None:
    words = (f"s3://{bucket.name}-none/run", *JSON_LOG)
    for answer in (rig.mount(*words), rig.run(words[0], rig.light(), *JSON_LOG)):
        assert answer.code == 78, answer
        [line] = logged(answer.err)
        assert (line["level"], line["event"], line["code"]) == ("error", "Error", 78)
        assert "no bucket" in line["message"]
        assert line["hint"]
    [log] = rig.state.rglob("supervisor.log")
    assert [line["event"] for line in logged(log.read_text())] == ["Error"]
