"""Objects that somebody alters, cuts short or deletes after their proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from light import checkpoint
from saving import files

from support.assertions import assert_proven
from support.chaos import Saves, proven_in, seeded
from support.installed import needs
from support.rig import MANIFEST, Answer, Bucket, eventually
from support.training import Training, checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.rig import Rig

DAMAGES: dict[str, Callable[[Bucket, str], None]] = {
    "altered": Bucket.flip,
    "size": Bucket.truncate,
    "missing": Bucket.remove,
}
STEPS = (10, 20, 30, 40)


def verify(rig: Rig, url: str, *options: str) -> Answer:
    return rig.ask("verify", url, "--format", "json", *options)


def problems(answer: Answer) -> dict[str, str]:
    """What is wrong with which file."""
    return {entry["path"]: entry["problem"] for entry in answer.json["files"] if entry["problem"]}


def latest(rig: Rig, source: str) -> str:
    answer = rig.ask("latest", source)
    return answer.out.strip().rpartition("/")[2]


@pytest.mark.fault(22, 32)
def test_damage_between_two_runs(rig: Rig, bucket: Bucket) -> None:
    chance = seeded(rig.backend)
    source = f"s3://{bucket.name}/run"
    answer = rig.run(source, rig.light(*(f"save:{step}" for step in STEPS)))
    assert answer.code == 0, answer
    # All kinds, the newest first, so that only the oldest is left.
    kinds = chance.sample(list(DAMAGES), 3)
    broken = dict(zip(reversed(STEPS), kinds, strict=False))
    for step, kind in broken.items():
        name = chance.choice([path for path, data in checkpoint(step).items() if data])
        DAMAGES[kind](bucket, f"run/checkpoint-{step}/{name}")
        for level in ("attest", "readback"):
            found = verify(rig, f"{source}/checkpoint-{step}", "--level", level)
            assert found.code == 74, found
            assert problems(found) == {name: kind}
    assert latest(rig, source) == "checkpoint-10"
    # The next run believes none of them, and what it saves is the newest.
    again = rig.run(source, rig.light("save:50"))
    assert again.code == 0, again
    assert_proven(bucket, "run/checkpoint-50", checkpoint(50))
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert latest(rig, source) == "checkpoint-50"


@pytest.mark.fault(22, 32)
def test_a_manifest_that_is_lost_makes_it_no_checkpoint(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    assert rig.run(source, rig.light("save:10", "save:20")).code == 0
    bucket.remove(f"run/checkpoint-20/{MANIFEST}")
    assert verify(rig, f"{source}/checkpoint-20").code == 74
    assert latest(rig, source) == "checkpoint-10"
    again = rig.run(source, rig.light("exit:0"))
    assert again.code == 0, again
    # Nobody has the bytes as they were written any more.
    assert bucket.manifest("run/checkpoint-20") is None


@pytest.mark.fault(10, 32)
def test_damage_in_the_middle_of_a_run_is_named_at_its_end(rig: Rig, bucket: Bucket) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    source = f"s3://{bucket.name}/run"
    saves = Saves(rig)
    job = rig.begin(source, saves.command("--how", "prove"))
    saves.await_more(job, "proven", count=3)
    damaged = dict(zip((10, 15, 20), DAMAGES, strict=True))
    for step, kind in damaged.items():
        damage(bucket, f"run/checkpoint-{step}", kind)
    saves.await_more(job, "proven", count=2)
    rig.say("enough")
    answer = job.wait()
    assert answer.code == 75, answer
    for step, kind in damaged.items():
        assert f"checkpoint-{step}/model.safetensors" in answer.err
        found = verify(rig, f"{source}/checkpoint-{step}")
        assert found.code == 74, found
        assert problems(found) == {"model.safetensors": kind}
    others = [step for step in proven_in(bucket) if step not in damaged]
    assert set(others) == set(saves.told("saved")) - set(damaged)
    for step in others:
        assert_proven(bucket, f"run/checkpoint-{step}", files(step))
    assert latest(rig, source) == f"checkpoint-{others[-1]}"


@pytest.mark.fault(20, 22, 32)
def test_retention_and_resume_with_damaged_checkpoints(rig: Rig, bucket: Bucket) -> None:
    needs("transformers")
    chance = seeded(rig.backend)
    source = f"s3://{bucket.name}/run"
    first = Training(rig)
    options = ["--save-steps", "2", "--limit", "2"]
    job = rig.begin(source, first.command("--steps", "8", *options, "--pause-at", "5"))
    rig.await_word("at-5", job)
    eventually(lambda: bucket.manifest("run/checkpoint-4"), "proven")
    damage(bucket, "run/checkpoint-4", chance.choice(list(DAMAGES)))
    rig.say("go-at-5")
    answer = job.wait()
    # By then two newer ones were proven, and the broken one was removed like any other.
    assert answer.code == 0, answer
    assert checkpoints(bucket) == {"checkpoint-6", "checkpoint-8"}
    first.assert_proven(bucket, 6)
    first.assert_proven(bucket, 8)

    damage(bucket, "run/checkpoint-8", chance.choice(list(DAMAGES)))
    second = Training(rig, "second")
    answer = rig.run(source, second.command("--steps", "10", "--save-steps", "2", "--limit", "1"))
    assert answer.code == 0, answer
    assert second.report["resumed_from"] == str(rig.target / "checkpoint-6")
    assert second.report["saved"] == [8, 10]
    # The one that was resumed from stays, whatever the limit.
    assert checkpoints(bucket) == {"checkpoint-6", "checkpoint-10"}
    first.assert_proven(bucket, 6)
    second.assert_proven(bucket, 10)
    assert latest(rig, source) == "checkpoint-10"


def damage(bucket: Bucket, name: str, kind: str) -> None:
    DAMAGES[kind](bucket, f"{name}/model.safetensors")
