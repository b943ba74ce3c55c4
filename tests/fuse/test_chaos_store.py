"""A store that fails now and then, goes away, or refuses everything from some moment on."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
from light import checkpoint
from saving import files

from support.assertions import assert_proven
from support.chaos import Saves, assert_the_truth, proven_in, seeded
from support.proxy import Fault, Proxy, Request
from support.rig import MANIFEST, eventually

if TYPE_CHECKING:
    import random

    from support.rig import Bucket, Job, Rig

FAULTS = {
    "failing": [Fault(500, "InternalError"), Fault(503, "SlowDown")],
    "slow": [Fault(delay=0.2), Fault(delay=1.0)],
    "resetting": [Fault(reset=True)],
    "all of it": [
        Fault(500, "InternalError"),
        Fault(503, "SlowDown"),
        Fault(reset=True),
        Fault(delay=1.0),
    ],
}
SHARE = 0.15
SAVES = 4
EVERYTHING_REFUSED = ["InvalidAccessKeyId", "ExpiredToken"]
# The credential_process of a profile: says who asks, and prints what is good for 15 s. A store that
# knows of no tokens does not get one; the other refuses it a little later.
RENEW = """\
#!/bin/sh
now=$(date +%s)
# Some ask through a shell.
echo $now $(cat /proc/$PPID/comm "/proc/$(cut -d' ' -f4 /proc/$PPID/stat)/comm") >> "$0.asked"
printf '{{"Version": 1, "AccessKeyId": "{key}", "SecretAccessKey": "{secret}", '
{with_token} printf '"SessionToken": "%s", ' $((now + 18))
printf '"Expiration": "%s"}}' "$(date -u -d @$((now + 15)) +%Y-%m-%dT%H:%M:%SZ)"
"""


class Share:
    """A rule that lets a share of all requests go wrong."""

    def __init__(self, chance: random.Random, faults: list[Fault]) -> None:
        self.chance = chance
        self.faults = faults
        self.lock = threading.Lock()

    def __call__(self, _: Request) -> Fault | None:
        with self.lock:
            return self.chance.choice(self.faults) if self.chance.random() < SHARE else None


def let_through(_: Request) -> None:
    """The rule of a store that is well."""


def refuse(code: str) -> Fault:
    return Fault(403, code)


def await_faults(proxy: Proxy, job: Job, count: int) -> None:
    """Wait until so many requests more went wrong."""
    wanted = proxy.faults + count

    def enough() -> bool:
        assert not job.ended(), job.wait()
        return proxy.faults >= wanted

    eventually(enough, f"{count} times refused:\n{job.err}", 120)


@pytest.mark.chaos
@pytest.mark.fault(33)
@pytest.mark.parametrize("kind", list(FAULTS))
def test_a_store_that_fails_now_and_then(rig: Rig, bucket: Bucket, kind: str) -> None:
    chance = seeded(rig.backend, kind)
    proxy = rig.proxy()
    saves = Saves(rig)
    how = "prove" if kind == "all of it" else "plain"
    command = saves.command("--how", how, "--count", str(SAVES))
    job = rig.begin(f"s3://{bucket.name}/run", command, endpoint=proxy.url, limit=240)
    saves.await_more(job)
    proxy.rule = Share(chance, FAULTS[kind])
    rig.say("enough")
    answer = job.wait()
    assert proxy.faults > 0
    assert_the_truth(bucket, saves, answer)
    assert len(saves.told("saved")) >= SAVES, f"{answer}\n{saves}"


@pytest.mark.fault(8, 33)
def test_a_store_that_answers_late_is_no_daemon_that_hangs(rig: Rig, bucket: Bucket) -> None:
    rig.settings.update(MOUNTKIT_PROBE_TIMEOUT="1", MOUNTKIT_HANG_TIMEOUT="2")
    proxy = rig.proxy()
    late = Fault(delay=5.0)
    proxy.rule = lambda it: late if it.key.endswith("model.safetensors") else None
    answer = rig.run(f"s3://{bucket.name}/run", rig.light("save:10"), endpoint=proxy.url)
    assert answer.code == 0, answer
    assert proxy.faults > 0
    assert "the mount is lost" not in answer.err
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(34)
@pytest.mark.parametrize("how", ["plain", "prove"])
def test_a_store_that_is_gone_for_a_while(rig: Rig, bucket: Bucket, how: str) -> None:
    proxy = rig.proxy()
    saves = Saves(rig)
    command = saves.command("--how", how, "--count", "3")
    job = rig.begin(f"s3://{bucket.name}/run", command, endpoint=proxy.url, limit=280)
    saves.await_more(job)
    proxy.rule = lambda _: Fault(reset=True)
    await_faults(proxy, job, 8)
    proxy.rule = let_through
    saves.await_more(job)
    rig.say("enough")
    answer = job.wait()
    assert answer.code == 0, f"{answer}\n{saves}"
    assert_the_truth(bucket, saves, answer)


@pytest.mark.fault(18)
@pytest.mark.parametrize("code", EVERYTHING_REFUSED)
def test_credentials_that_are_revoked_in_the_middle_of_a_run(
    rig: Rig, bucket: Bucket, code: str
) -> None:
    proxy = rig.proxy()
    saves = Saves(rig)
    job = rig.begin(
        f"s3://{bucket.name}/run", saves.command("--how", "prove"), endpoint=proxy.url, limit=120
    )
    saves.await_more(job, "proven")
    proxy.rule = lambda _: refuse(code)
    answer = job.wait()
    # What the saving program made of it is passed on: the code of a permission that is denied.
    assert answer.code == 77, f"{answer}\n{saves}"
    assert code in answer.err
    proven = proven_in(bucket)
    assert set(saves.told("proven")) <= set(proven)
    for step in proven:
        assert_proven(bucket, f"run/checkpoint-{step}", files(step))


def late(at: float) -> bool:
    return time.time() > at


@pytest.mark.fault(18)
def test_credentials_that_expire_and_renew_themselves(rig: Rig, bucket: Bucket) -> None:
    proxy = rig.proxy()
    proxy.rule = lambda it: refuse("ExpiredToken") if it.token and late(float(it.token)) else None
    program, asked = rig.work / "renew", rig.work / "renew.asked"
    words = {"key": rig.server.access_key, "secret": rig.server.secret_key}
    with_token = ":;" if rig.backend == "rclone" else ": "
    program.write_text(RENEW.format(**words, with_token=with_token))
    program.chmod(0o700)
    config = rig.work / "config"
    config.write_text(f"[default]\ncredential_process = {program}\n")
    saves = Saves(rig)
    job = rig.begin(
        f"s3://{bucket.name}/run",
        saves.command("--how", "prove"),
        endpoint=proxy.url,
        AWS_CONFIG_FILE=str(config),
        AWS_ACCESS_KEY_ID=None,
        AWS_SECRET_ACCESS_KEY=None,
    )
    saves.await_more(job, "proven")
    daemon = rig.daemon().name()
    began = time.time()
    eventually(lambda: job.ended() or late(began + 18), "expired")
    saves.await_more(job, "proven")
    rig.say("enough")
    answer = job.wait()
    assert answer.code == 0, f"{answer}\n{saves}"
    assert_the_truth(bucket, saves, answer)
    asking = [line.split() for line in asked.read_text().splitlines()]
    assert any(int(at) > began and daemon in names for at, *names in asking), asking


@pytest.mark.fault(5, 14, 18)
@pytest.mark.parametrize("code", EVERYTHING_REFUSED)
def test_credentials_that_are_revoked_before_the_drain(rig: Rig, bucket: Bucket, code: str) -> None:
    proxy = rig.proxy()
    job = rig.begin(
        f"s3://{bucket.name}/run",
        rig.light("save:10", "say:saved", "wait:go"),
        *rig.late,
        endpoint=proxy.url,
        limit=60,
    )
    rig.await_word("saved", job)
    proxy.rule = lambda _: refuse(code)
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert code in answer.err
    assert "checkpoint-10/model.safetensors" in answer.err
    assert bucket.manifest("run/checkpoint-10") is None
    # With credentials that are good, the next run brings it.
    proxy.rule = let_through
    again = rig.run(f"s3://{bucket.name}/run", rig.light("exit:0"), endpoint=proxy.url)
    assert again.code == 0, again
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(35)
def test_a_clock_that_is_wrong_from_the_start(rig: Rig, bucket: Bucket) -> None:
    proxy = rig.proxy()
    proxy.rule = lambda _: refuse("RequestTimeTooSkewed")
    answer = rig.run(f"s3://{bucket.name}/run", rig.light("say:ran"), endpoint=proxy.url)
    assert answer.code == 78, answer
    assert "clock of this machine differs too much" in answer.err
    assert "RequestTimeTooSkewed" in answer.err
    assert not (rig.gates / "ran").exists()


@pytest.mark.fault(35)
def test_a_clock_that_goes_wrong_in_the_middle_of_a_run(rig: Rig, bucket: Bucket) -> None:
    proxy = rig.proxy()
    command = rig.light("save:10", "say:saved", "wait:go")
    job = rig.begin(f"s3://{bucket.name}/run", command, *rig.late, endpoint=proxy.url, limit=60)
    rig.await_word("saved", job)
    proxy.rule = lambda _: refuse("RequestTimeTooSkewed")
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "clock of this machine differs too much" in answer.err
    assert "checkpoint-10/model.safetensors" in answer.err


@pytest.mark.fault(5, 20, 34)
def test_what_retention_has_removed_is_not_missed_by_the_next_run(rig: Rig, bucket: Bucket) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    proxy = rig.proxy()
    saves = Saves(rig)
    source = f"s3://{bucket.name}/run"
    # The last save can be written and not be proven.
    command = saves.command("--how", "prove", "--keep", "1", "--pause", "0.3")
    job = rig.begin(source, command, *rig.late, endpoint=proxy.url)
    saves.await_more(job, "removed", count=2)
    proxy.rule = lambda request: refuse("AccessDenied") if MANIFEST in request.key else None
    answer = job.wait()
    assert answer.code == 77, f"{answer}\n{saves}"
    kept = proven_in(bucket)
    proxy.rule = let_through
    again = rig.run(source, rig.light("exit:0"), endpoint=proxy.url)
    assert again.code == 0, f"{again}\n{answer}\n{saves}"
    assert set(kept) <= set(proven_in(bucket))
    for step in proven_in(bucket):
        assert_proven(bucket, f"run/checkpoint-{step}", files(step))


@pytest.mark.fault(7, 14)
def test_what_one_run_has_lost_is_not_the_failure_of_every_later_one(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    saves = Saves(rig)
    job = rig.begin(source, saves.command("--pause", "0.3"))
    saves.await_more(job)
    saves.await_more(job, "begin")
    os.killpg(job.process.pid, signal.SIGKILL)
    job.process.wait()
    rig.kill(rig.daemon())
    torn = saves.told("begin")[-1]
    for _ in range(2):
        answer = rig.run(source, rig.light("exit:0"))
        print(answer)
    assert answer.code == 0, answer
    assert bucket.manifest(f"run/checkpoint-{torn}") is None
