"""What a run is promised, over every store that is not S3, mounted by rclone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from light import checkpoint

from mountkit.names import LEASE_NAME
from mountkit.store.remote import rcd
from support.every_store import KINDS, Kind, Place, StoreRig, leaving_nothing
from support.rig import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VICTIM = "model.safetensors"
FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="module", params=KINDS)
def kind(
    request: pytest.FixtureRequest, fuse: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kind]:
    with KINDS[request.param](tmp_path_factory.mktemp(request.param)) as served:
        yield served
        rcd.end_all()


@pytest.fixture
def rig(kind: Kind) -> Iterator[StoreRig]:
    rig = StoreRig.over(kind)
    with leaving_nothing(rig):
        yield rig


@pytest.fixture
def place(kind: Kind) -> Place:
    return Place(kind)


@pytest.fixture(scope="module")
def saved(kind: Kind) -> Iterator[Place]:
    """Three checkpoints, proven by one run that lost its daemon twice."""
    rig, place = StoreRig.over(kind), Place(kind)
    try:
        run_with_deaths(rig, place)
        yield place
    finally:
        rig.sweep()


def run_with_deaths(rig: StoreRig, place: Place) -> None:
    actions = ["save:10", "say:between", "wait:go", "save:20", "say:again", "wait:on", "save:30"]
    job = rig.begin(place.url, rig.light(*actions), *rig.late)
    rig.await_word("between", job)
    rig.kill(rig.daemon())
    rig.await_remount(1)
    rig.say("go")
    rig.await_word("again", job)
    rig.kill(rig.daemon())
    rig.await_remount(2)
    rig.say("on")
    answer = job.wait()
    assert answer.code == 0, answer
    assert "mounted again" in answer.err


@pytest.mark.fault(6, 13)
def test_a_daemon_killed_twice_between_saves_costs_nothing(saved: Place) -> None:
    for step in (10, 20, 30):
        saved.assert_proven(f"checkpoint-{step}", checkpoint(step))


@pytest.mark.fault(32)
def test_one_byte_altered_and_one_cut_off_are_named(rig: StoreRig, saved: Place) -> None:
    found = rig.ask("latest", saved.url)
    assert (found.code, found.out) == (0, f"{saved.url}/checkpoint-30\n"), found
    assert rig.ask("verify", f"{saved.url}/checkpoint-30").code == 0
    saved.flip(f"checkpoint-30/{VICTIM}")
    saved.truncate("checkpoint-20/optimizer.pt")
    for step, name, problem in ((30, VICTIM, "altered"), (20, "optimizer.pt", "size")):
        told = rig.ask("verify", f"{saved.url}/checkpoint-{step}", "--format", "json")
        assert told.code == 74, told
        bad = [(file["path"], file["problem"]) for file in told.json["files"] if file["problem"]]
        assert bad == [(name, problem)]
    found = rig.ask("latest", saved.url)
    assert (found.code, found.out) == (0, f"{saved.url}/checkpoint-10\n"), found
    assert VICTIM in found.err


@pytest.mark.fault(7, 11, 22)
def test_a_daemon_killed_within_a_save_and_what_follows(rig: StoreRig, place: Place) -> None:
    actions = ["save:10", "save:20", "torn:30", "say:within", "wait:go"]
    job = rig.begin(place.url, rig.light(*actions), *rig.late)
    rig.await_word("within", job)
    rig.kill(rig.daemon())
    rig.await_remount()
    rig.say("go")
    answer = job.wait()
    # All of what was written is in the store, and it is no checkpoint.
    assert answer.code == 0, answer
    assert "checkpoint-30 is not a finished checkpoint" in answer.err
    assert place.manifest("checkpoint-30") is None
    found = rig.ask("latest", place.url)
    assert (found.code, found.out) == (0, f"{place.url}/checkpoint-20\n"), found

    again = rig.run(place.url, rig.light("save:30"))
    assert again.code == 0, again
    place.assert_proven("checkpoint-30", checkpoint(30))
    pruned = rig.ask("prune", place.url, "--keep", "1")
    assert pruned.code == 0, pruned
    assert place.files("checkpoint-10") == place.files("checkpoint-20") == {}
    place.assert_proven("checkpoint-30", checkpoint(30))
    # Nor is an empty directory left of one.
    shown = rig.run(place.url, ["ls", str(rig.target)])
    assert shown.code == 0, shown
    assert shown.out.split() == ["checkpoint-30", LEASE_NAME]


@pytest.mark.fault(4, 5, 34)
def test_while_the_store_is_away_a_run_ends_with_75_and_the_next_one_brings_it(
    rig: StoreRig, place: Place
) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    job = rig.begin(place.url, rig.light("save:10", "say:saved", "wait:go"), *rig.late)
    rig.await_word("saved", job)
    rig.kind.stop()
    try:
        rig.say("go")
        answer = job.wait()
        assert answer.code == 75, answer
        assert f"checkpoint-10/{VICTIM}" in answer.err
        refused = rig.run(place.url, rig.light("say:ran"), limit=30)
        assert refused.code == 69, refused
        assert not (rig.gates / "ran").exists()
    finally:
        rig.kind.start()
    # It was so short for the store that is away.
    del rig.settings["MOUNTKIT_STALL_TIMEOUT"]
    again = rig.run(place.url, rig.light("exit:0"), *rig.late)
    assert again.code == 0, again
    place.assert_proven("checkpoint-10", checkpoint(10))


@pytest.mark.fault(18, 19)
def test_what_is_wrong_is_said_before_anything_runs(rig: StoreRig, place: Place) -> None:
    for url, env, codes in (
        (rig.kind.wrong_url(f"{place.prefix}/run"), rig.kind.wrong, {77, 78}),
        (rig.kind.missing, {}, {78}),
    ):
        answer = rig.run(url, rig.light("say:ran"), limit=30, **env)
        assert answer.code in codes, answer
        assert "mountkit" in answer.err
        assert "Traceback" not in answer.err
    refused = rig.mountkit("mount", place.url, rig.target, "--backend", "mountpoint")
    assert refused.code == 2, refused
    assert "s3:// only" in refused.err
    assert not (rig.gates / "ran").exists()


def test_the_doctor_says_that_it_will_save(rig: StoreRig, place: Place) -> None:
    rig.backend = ""
    told = rig.mountkit("doctor", place.url, "--format", "json", limit=90)
    assert told.code == 0, told
    assert told.json["backend"] == "rclone"
    assert {finding["name"] for finding in told.json["findings"]} >= {
        "bucket",
        "arrival",
        "conditions",
        "lease",
    }
    assert place.files() == {}


def holding(secret: str, top: Path) -> list[str]:
    data = secret.encode()
    return [str(path) for path in top.rglob("*") if path.is_file() and data in path.read_bytes()]


def environment_of(process: psutil.Process) -> dict[str, str]:
    return process.environ()


def test_it_can_be_measured(rig: StoreRig, place: Place) -> None:
    options = ("--size", "2MB", "--rounds", "1", "--format", "json")
    answer = rig.mountkit("bench", place.url, *options, limit=150)
    assert answer.code == 0, answer
    report = json.loads(answer.out)
    (found,) = report["backends"]
    assert found["backend"] == "rclone"
    assert 0 < found["save_seconds"] <= found["proven_seconds"]
    assert (report["not_measured"], report["left"]) == ([], [])
    assert place.files() == {}


def test_a_secret_is_nowhere_to_be_seen(rig: StoreRig, place: Place) -> None:
    job = rig.begin(place.url, rig.light("save:10", "say:saved", "wait:go"), *rig.talkative)
    rig.await_word("saved", job)
    daemon = rig.daemon()
    lines = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    seen: list[Any] = [*lines, *environment_of(daemon).values()]
    told = rig.mountkit("status", "--format", "json")
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    place.assert_proven("checkpoint-10", checkpoint(10))
    seen += [told.out, told.err, answer.out, answer.err]
    for secret in rig.kind.secrets:
        assert len(secret) >= 16
        assert [one for one in seen if secret in one] == []
        assert holding(secret, rig.work) == []


@pytest.mark.fault(13, 18)
def test_a_key_that_was_changed_does_not_orphan_what_waits(rig: StoreRig, place: Place) -> None:
    if not hasattr(rig.kind, "rotate"):
        return
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    job = rig.begin(place.url, rig.light("save:10", "say:saved", "wait:go"), *rig.late)
    rig.await_word("saved", job)
    taken_up = rig.kind.rotate()
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    rig.settings.update(taken_up())
    del rig.settings["MOUNTKIT_STALL_TIMEOUT"]
    again = rig.run(place.url, rig.light("exit:0"), *rig.late)
    assert again.code == 0, again
    place.assert_proven("checkpoint-10", checkpoint(10))


@pytest.mark.fault(13, 18)
def test_a_daemon_that_is_started_again_takes_up_the_new_key(rig: StoreRig, place: Place) -> None:
    if not hasattr(rig.kind, "rotate") or rig.kind.by_environment:
        return
    job = rig.begin(place.url, rig.light("save:10", "say:saved", "wait:go"), *rig.late)
    rig.await_word("saved", job)
    rig.kind.rotate()()
    rig.kill(rig.daemon())
    rig.await_remount()
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    place.assert_proven("checkpoint-10", checkpoint(10))
    eventually(lambda: not rig.mounts(), "unmounted")
