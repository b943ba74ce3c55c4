"""What ``mountkit prune`` removes and what it leaves alone, on a bucket in memory."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from mountkit.checkpoints import pruning
from mountkit.checkpoints.manifest import FileEntry, Manifest
from mountkit.errors import PermissionDeniedError, VerificationError
from mountkit.names import MANIFEST_NAME, TRAINER_STATE
from mountkit.spec import Source
from mountkit.store import checksums
from support.fakes import Bucket, FakeStore

NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


class Place:
    def __init__(self) -> None:
        self.bucket = Bucket()
        self.store = FakeStore(self.bucket, Source("s3", "bucket", "run"))

    def prove(self, step: int, *, minute: int | None = None, state: object = None) -> None:
        """A proven checkpoint, saved at that minute, or at that of its step."""
        name = f"checkpoint-{step}"
        files = {"model": b"weights", TRAINER_STATE: json.dumps(state or {}).encode()}
        entries = []
        for path, data in files.items():
            self.store.put(f"{name}/{path}", data)
            tag = self.store.stat(f"{name}/{path}").tag
            crc = checksums.digest_bytes(data).values["crc64nvme"]
            entries.append(FileEntry(path, len(data), crc, "write", "crc64nvme", tag))
        saved = NOW + timedelta(minutes=step if minute is None else minute)
        manifest = Manifest(step, NOW, self.store.url(name), tuple(entries), saved)
        self.store.put(f"{name}/{MANIFEST_NAME}", manifest.to_bytes())

    def plan(self, keep: int) -> pruning.Plan:
        return pruning.plan(self.store, keep)

    def remove(self, keep: int) -> dict[str, str]:
        plan = self.plan(keep)
        return {
            name: pruning.remove(self.store, name, plan.manifests[name]) for name in plan.remove
        }

    @property
    def left(self) -> set[str]:
        return {key.split("/")[1] for key in self.bucket.objects}


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.mark.fault(20)
class TestPlan:
    def test_the_newest_stay_by_step_and_not_by_name(self, place):
        for step in (9, 10, 100):
            place.prove(step)
        plan = place.plan(2)
        assert plan.remove == ("checkpoint-9",)
        assert [*plan.keep] == ["checkpoint-10", "checkpoint-100"]

    def test_what_was_never_proven_goes_only_when_asked_and_never_the_newest(self, place):
        for step in (9, 10):
            place.prove(step)
        for step in (3, 11):
            place.store.put(f"checkpoint-{step}/model", b"torn")
        place.store.put(f"checkpoint-4/{MANIFEST_NAME}", b"of a newer mountkit, perhaps")
        place.store.put("notes/model", b"somebody's")
        assert place.plan(2).remove == ()
        plan = pruning.plan(place.store, 2, torn=True)
        assert plan.remove == ("checkpoint-3",)
        assert plan.unproven.keys() == {"checkpoint-4", "checkpoint-11"}
        assert pruning.remove(place.store, "checkpoint-3", plan.manifests["checkpoint-3"]) == ""
        assert place.left == {
            "checkpoint-4",
            "checkpoint-9",
            "checkpoint-10",
            "checkpoint-11",
            "notes",
        }
        # Somebody has proven it meanwhile.
        place.prove(3)
        assert "saved anew" in pruning.remove(place.store, "checkpoint-3", None)

    def test_what_another_training_left_goes_first(self, place):
        place.prove(8, minute=1)
        place.prove(10, minute=2)
        # It began anew below them.
        place.prove(2, minute=3)
        place.prove(4, minute=4)
        assert place.plan(3).remove == ("checkpoint-8",)
        assert place.plan(2).remove == ("checkpoint-8", "checkpoint-10")

    def test_the_best_stays(self, place):
        for step in (2, 4):
            place.prove(step)
        place.prove(6, state={"best_model_checkpoint": "/mnt/run/checkpoint-2/"})
        plan = place.plan(1)
        assert plan.remove == ("checkpoint-4",)
        assert plan.keep["checkpoint-2"] == "the best"

    def test_the_newest_that_is_intact_stays_where_newer_ones_are_damaged(self, place):
        for step in (2, 4, 6):
            place.prove(step)
        del place.bucket.objects["run/checkpoint-6/model"]
        plan = place.plan(1)
        assert plan.remove == ("checkpoint-2",)
        assert plan.keep["checkpoint-4"] == "the newest that is intact"

    def test_where_none_is_intact_none_goes(self, place):
        for step in (2, 4):
            place.prove(step)
            del place.bucket.objects[f"run/checkpoint-{step}/model"]
        with pytest.raises(VerificationError, match="None of the 2 proven"):
            place.plan(1)

    @pytest.mark.parametrize("state", [["no", "object"], {"best_model_checkpoint": 7}, "words"])
    def test_nor_where_nobody_can_tell_which_is_the_best(self, place, state):
        place.prove(2)
        place.prove(4, state=state)
        with pytest.raises(VerificationError, match="the best is not"):
            place.plan(1)

    def test_more_than_there_are(self, place):
        place.prove(2)
        assert place.plan(5).remove == ()
        assert Place().plan(1) == pruning.Plan((), {}, {}, {})

    @pytest.mark.parametrize(
        "manifest",
        [
            b"{",
            b'{"format": 2, "step": 1}',
            json.dumps({"format": 1, "step": 7}).encode(),
            b"[" * 100_000,
        ],
    )
    def test_one_whose_manifest_cannot_be_trusted_is_named_and_left_alone(self, place, manifest):
        place.bucket.objects["run/checkpoint-1/model"] = b"of whom?"
        place.bucket.objects[f"run/checkpoint-1/{MANIFEST_NAME}"] = manifest
        place.bucket.objects["run/checkpoint-3/model"] = b"torn"
        for step in (2, 4):
            place.prove(step)
        plan = place.plan(1)
        assert plan.remove == ("checkpoint-2",)
        assert {*plan.unproven} == {"checkpoint-1", "checkpoint-3"}
        place.remove(1)
        assert place.left == {"checkpoint-1", "checkpoint-3", "checkpoint-4"}


@pytest.mark.fault(7, 20, 36)
class TestRemove:
    def test_the_manifest_goes_first(self, place):
        place.prove(2)
        place.prove(4)
        assert place.remove(1) == {"checkpoint-2": ""}
        first, *_ = place.bucket.asked("delete")
        assert first == f"run/checkpoint-2/{MANIFEST_NAME}"
        assert place.left == {"checkpoint-4"}

    def test_a_path_in_a_manifest_leads_nowhere_else(self, place):
        place.bucket.objects["run/precious"] = b"p"
        place.prove(4)
        place.prove(2)
        key = f"run/checkpoint-2/{MANIFEST_NAME}"
        hostile = json.loads(place.bucket.objects[key])
        hostile["files"][0]["path"] = "../precious"
        place.bucket.objects[key] = json.dumps(hostile).encode()
        assert place.remove(1) == {}
        assert "run/precious" in place.bucket.objects
        assert key in place.bucket.objects

    @pytest.mark.parametrize("anew", ["withdrawn", "proven"])
    def test_one_that_is_saved_anew_meanwhile_is_left_alone(self, place, anew):
        place.prove(2)
        place.prove(4)
        plan = place.plan(1)
        if anew == "proven":
            place.prove(2, minute=9)
        else:
            del place.bucket.objects[f"run/checkpoint-2/{MANIFEST_NAME}"]
        why = pruning.remove(place.store, "checkpoint-2", plan.manifests["checkpoint-2"])
        assert "anew" in why
        assert "run/checkpoint-2/model" in place.bucket.objects

    def test_a_refusal_of_the_store_is_an_error(self, place):
        place.prove(2)
        place.prove(4)

        def refuse(_: str) -> None:
            raise PermissionDeniedError("may not delete")

        place.bucket.before_delete = refuse
        with pytest.raises(PermissionDeniedError):
            place.remove(1)
        assert place.left == {"checkpoint-2", "checkpoint-4"}
