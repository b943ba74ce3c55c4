"""Every way in which a Trainer saves: what it saved is proven, as it was saved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support import hub, preloaded
from support.assertions import assert_proven
from support.installed import needs
from support.rig import MANIFEST, SCRIPTS, assert_same

if TYPE_CHECKING:
    from pathlib import Path

    from support.rig import Answer, Bucket, Rig

needs("transformers", "torch", "peft")

SENTINEL = "checkpoint-is-incomplete.txt"


class Ways:
    """A run of them, and what each left on the local disk."""

    def __init__(self, rig: Rig, bucket: Bucket) -> None:
        self.rig = rig
        self.bucket = bucket
        self.reference = rig.work / "reference"
        self.reference.mkdir()

    def run(
        self,
        *names: str,
        options: tuple[str, ...] = (),
        from_the_start: bool = False,
        **env: str | None,
    ) -> Answer:
        places = [self.rig.target, self.reference, self.rig.work / "report.json"]
        words = [*map(str, places), *names]
        script = SCRIPTS / "ways.py"
        command = [self.rig.python, str(script), *words]
        if not from_the_start:
            command = preloaded.command(self.rig.python, script, words)
        return self.rig.run(f"s3://{self.bucket.name}/run", command, *options, **env)

    def report(self, name: str) -> dict[str, Any]:
        return json.loads((self.rig.work / "report.json").read_text())[name]

    def written(self, path: str) -> dict[str, bytes]:
        top: Path = self.reference / path
        files = [each for each in top.rglob("*") if each.is_file()]
        assert files, f"{path} was not saved"
        return {each.relative_to(top).as_posix(): each.read_bytes() for each in files}

    def assert_proven(self, name: str, *steps: int) -> None:
        """By the callback, while it trained, and byte for byte."""
        for step in steps:
            written = self.written(f"{name}/checkpoint-{step}")
            assert_proven(self.bucket, f"run/{name}/checkpoint-{step}", written)
            assert SENTINEL not in written

    def checkpoints(self, name: str) -> set[str]:
        found = {path.split("/")[0] for path in self.bucket.everything(f"run/{name}")}
        return {each for each in found if each.startswith("checkpoint-")}


@pytest.fixture
def ways(rig: Rig, bucket: Bucket) -> Ways:
    return Ways(rig, bucket)


@pytest.mark.fault(20, 24, 26)
def test_each_way_is_proven_while_it_trains(ways: Ways) -> None:
    answer = ways.run(
        "epochs", "best", "only_the_best", "only_model", "adapters", "tokenizer", "twice"
    )
    assert answer.code == 0, answer

    ways.assert_proven("epochs", 16, 32)
    assert ways.report("epochs")["proven"] == [16, 32]

    best = ways.report("best")
    assert (best["best"], best["loaded"]) == ("checkpoint-2", True)
    assert ways.checkpoints("best") == {"checkpoint-2", "checkpoint-6"}
    ways.assert_proven("best", 2, 6)

    assert ways.report("only_the_best")["proven"] == [2, 4]
    ways.assert_proven("only_the_best", 2, 4)

    ways.assert_proven("only_model", 2, 4)
    assert "optimizer.pt" not in ways.written("only_model/checkpoint-4")

    ways.assert_proven("adapters", 2, 4)
    assert "adapter_model.safetensors" in ways.written("adapters/checkpoint-4")
    ways.assert_proven("tokenizer", 2, 4)
    assert "tokenizer.json" in ways.written("tokenizer/checkpoint-4")
    for name, file in (("adapters", "adapter_config.json"), ("tokenizer", "tokenizer.json")):
        final = ways.bucket.files(f"run/{name}/final")
        assert file in final
        assert_same(final, ways.written(f"{name}/final"))

    twice = ways.report("twice")
    assert twice["proven"] == [2, 4, 6, 2]
    assert twice["resumed_from"] == str(ways.rig.target / "twice/checkpoint-4")
    ways.assert_proven("twice", 4, 6)
    assert ways.bucket.manifest("run/twice/third/checkpoint-2") is not None


@pytest.mark.fault(20)
def test_a_callback_that_comes_late_takes_the_rotation_over(ways: Ways) -> None:
    answer = ways.run("added_later")
    assert answer.code == 0, answer
    told = ways.report("added_later")
    assert told["proven"] == [2, 4, 6]
    # Trainer's own would have removed it before the next one could be proven.
    assert "checkpoint-2" in told["there"]["4"]
    assert ways.checkpoints("added_later") == {"checkpoint-6"}
    ways.assert_proven("added_later", 6)


def test_the_runs_of_a_search_are_proven_each_in_its_folder(ways: Ways) -> None:
    answer = ways.run("search")
    assert answer.code == 0, answer
    told = ways.report("search")
    assert told["proven"] == [2, 4] * 3
    top = ways.rig.target / "search"
    for name in ("run-0", "run-1", "."):
        assert told[name] == str(top / name / "checkpoint-4")
        place = "search" if name == "." else f"search/{name}"
        # Each within save_total_limit by itself.
        assert ways.checkpoints(place) == {"checkpoint-4"}
        ways.assert_proven(place, 4)


@pytest.mark.fault(25)
def test_what_is_saved_on_a_signal_is_proven(ways: Ways) -> None:
    answer = ways.run("on_signal", "on_signal_after_a_save")
    assert answer.code == 0, answer
    told = ways.report("on_signal")
    assert told["saved"] == ["checkpoint-3"]
    assert told["ended_at"] == 4
    # By the callback, before the training was over.
    assert told["proven"] == [3]
    ways.assert_proven("on_signal", 3)

    told = ways.report("on_signal_after_a_save")
    # It was saved once: the same state again would put the proven one at risk.
    assert told["saved"] == ["checkpoint-2"]
    assert told["proven"] == [2]
    ways.assert_proven("on_signal_after_a_save", 2)
    for name in ("on_signal", "on_signal_after_a_save"):
        for path in ways.bucket.everything(f"run/{name}"):
            assert not path.endswith(SENTINEL)
        for checkpoint in ways.checkpoints(name):
            assert ways.bucket.manifest(f"run/{name}/{checkpoint}") is not None, MANIFEST


@pytest.mark.cached
def test_a_push_to_the_hub_goes_on_beside_it(ways: Ways) -> None:
    with hub.serving() as served:
        # Where the hub is, and whether there is one, is read when its library is loaded.
        env = {"HF_ENDPOINT": served.url, "HF_HUB_OFFLINE": None, "HF_HUB_DISABLE_TELEMETRY": "1"}
        answer = ways.run("push", from_the_start=True, **env)
    assert answer.code == 0, (answer, served.asked)
    assert ways.report("push")["proven"] == [2, 4]
    ways.assert_proven("push", 2, 4)
    # What was pushed is what the bucket has, and nothing of the checkpoints.
    assert {"model.safetensors", "config.json", "README.md"} <= served.files.keys()
    assert not [path for path in served.files if "checkpoint-" in path]
    weights = ways.bucket.files("run/push")["model.safetensors"]
    assert served.files["model.safetensors"] == weights
    assert weights == ways.written("push/checkpoint-4")["model.safetensors"]


@pytest.mark.uncached
def test_a_push_at_each_save_is_refused_before_the_first_step(ways: Ways) -> None:
    with hub.serving() as served:
        env = {"HF_ENDPOINT": served.url, "HF_HUB_OFFLINE": None, "HF_HUB_DISABLE_TELEMETRY": "1"}
        answer = ways.run("push", from_the_start=True, **env)
    assert answer.code == 1, answer
    assert "push_to_hub copies the model with its mode" in answer.err
    assert ways.checkpoints("push") == set()


@pytest.mark.cached
@pytest.mark.fault(15)
def test_many_checkpoints_go_through_little_room(ways: Ways, small_disk: Path) -> None:
    room = 20_000_000
    answer = ways.run(
        "many",
        options=("--option", "vfs-cache-min-free-space=off", "--cache-size", "20MB"),
        ROOM=str(small_disk),
    )
    assert answer.code == 0, answer
    told = ways.report("many")
    assert told["proven"] == list(range(1, 26))
    size = sum(map(len, ways.written("many/checkpoint-25").values()))
    assert 25 * size > 4 * room, "it would have fitted"
    assert told["most"] <= room
    ways.assert_proven("many", 1, 25)
    assert "cache_size" not in answer.err
