"""The end of a container, asked for or not, with uploads that are under way."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest
from light import checkpoint

from support.assertions import assert_proven
from support.containers import eventually

if TYPE_CHECKING:
    from support.containers import ContainerRig
    from support.rig import Bucket

MANY = int(os.environ.get("MOUNTKIT_TEST_MANY", "3"))
SEED = os.environ.get("MOUNTKIT_TEST_SEED", "")
ASKED = (signal.SIGTERM, signal.SIGINT)
#: So much that an upload is under way when the signal comes, even to a store on the same machine.
BYTES = 20_000_000


def assert_told(code: int, number: signal.Signals, bucket: Bucket, saved: list[int]) -> None:
    """0 or the signal's code says that all is there; 75 that it is not known to be."""
    assert code in {0, 128 + number, 75}
    if code == 75:
        return
    for step in saved:
        assert_proven(bucket, f"run/checkpoint-{step}", checkpoint(step, BYTES))


@pytest.mark.fault(5)
@pytest.mark.parametrize("number", ASKED, ids=lambda number: number.name)
def test_told_to_end_all_of_it_is_brought_home(
    rig: ContainerRig, bucket: Bucket, number: signal.Signals
) -> None:
    command = rig.late(f"save:10:{BYTES}", "say:saved", "wait:never")
    container = rig.begin(*command, MOUNTKIT_GRACE="60")
    rig.await_word("saved", container)
    if number is signal.SIGTERM:
        container.stop(60)
    else:
        container.kill(number)
    answer = container.wait()
    # The store is there and has time enough.
    assert answer.code == 128 + number, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10, BYTES))


@pytest.mark.cached
@pytest.mark.fault(5)
def test_told_to_end_while_the_store_is_away_it_does_not_say_that_all_went_well(
    rig: ContainerRig, bucket: Bucket
) -> None:
    gate = rig.gate()
    command = rig.late("save:10", "say:saved", "wait:never")
    container = rig.begin(*command, MOUNTKIT_ENDPOINT_URL=gate.url, MOUNTKIT_GRACE="20")
    rig.await_word("saved", container)
    gate.shut()
    container.stop(60)
    answer = container.wait()
    # Not 137: it was done before the engine's patience was over.
    assert answer.code == 75, answer
    assert "not proven: checkpoint-10/model.safetensors" in answer.err
    assert bucket.manifest("run/checkpoint-10") is None


@pytest.mark.fault(5)
def test_at_any_moment(rig: ContainerRig, bucket: Bucket) -> None:
    seed = int(SEED or random.randrange(10**6))
    print(f"MOUNTKIT_TEST_SEED={seed}")
    chance = random.Random(seed)
    for number in range(MANY):
        how = chance.choice(ASKED)
        step, other = number * 100 + 10, number * 100 + 20
        # It saves without a pause, so that the signal comes in the middle of something.
        actions = (f"save:{step}:{BYTES}", f"say:saved-{step}", f"save:{other}:{BYTES}")
        command = rig.light(*actions, f"say:saved-{other}", "wait:never")
        container = rig.begin(*command, MOUNTKIT_GRACE="40")
        rig.await_word(f"saved-{step}", container)
        time.sleep(chance.uniform(0, 1.5))
        if how is signal.SIGTERM:
            container.stop(60)
        else:
            container.kill(how)
        saved = [each for each in (step, other) if (rig.gates / f"saved-{each}").exists()]
        answer = container.wait()
        print(f"try {number + 1}: {how.name}, saved {saved}, code {answer.code}")
        assert_told(answer.code, how, bucket, saved)


@pytest.mark.cached
@pytest.mark.fault(37)
def test_what_a_killed_container_left_in_its_volume_the_next_one_uploads(
    rig: ContainerRig, bucket: Bucket
) -> None:
    gate, volume = rig.gate(), rig.volume()
    where = {"MOUNTKIT_ENDPOINT_URL": gate.url}
    kept = ("--volume", f"{volume}:/var/cache/mountkit")
    command = rig.late("save:10", "say:saved", "wait:never")
    container = rig.begin(*command, options=kept, **where)
    rig.await_word("saved", container)
    gate.shut()
    container.kill(signal.SIGKILL)
    assert container.wait().code == 137
    assert bucket.manifest("run/checkpoint-10") is None
    gate.open()
    answer = rig.run("true", options=kept, **where)
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.fault(6)
def test_a_daemon_that_the_kernel_kills_for_memory(rig: ContainerRig, bucket: Bucket) -> None:
    limit = ("--memory", "600m", "--memory-swap", "600m")
    container = rig.begin(
        *rig.light("save:10", "say:saved", "wait:go", "save:20", "say:over"), options=limit
    )
    rig.await_word("saved", container)
    daemon = rig.daemon_of(container)
    # The kernel takes the process that is worth most to it: let that be the daemon.
    chosen = container.exec("sh", "-c", f"echo 1000 >/proc/{daemon}/oom_score_adj", user="0")
    assert chosen.code == 0, chosen
    # The kernel may take that one, too, before it sees that the daemon is gone.
    hog = container.exec("python3", "-c", HOG, str(daemon), user="0")
    assert hog.code in {0, 137}, hog

    def mounted_again() -> bool:
        [mount] = rig.status(container)
        return mount["remounts"] > 0 and mount["state"] == "serving"

    eventually(mounted_again, "mounted again")
    rig.say("go")
    answer = container.wait()
    assert answer.code == 0, answer
    assert "ended: killed by SIGKILL" in answer.err
    for step in (10, 20):
        assert_proven(bucket, f"run/checkpoint-{step}", checkpoint(step))


# Takes memory, a little at a time, until the process it is told is gone.
HOG = """
import os, sys, time
daemon, held = sys.argv[1], []
def lives():
    try:
        return open(f"/proc/{daemon}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
held.append(os.urandom(1 << 12) * (80 << 10))
for _ in range(600):
    held.append(os.urandom(1 << 12) * (1 << 8))
    time.sleep(0.02)
    if not lives():
        sys.exit(0)
sys.exit("the daemon lives")
"""
