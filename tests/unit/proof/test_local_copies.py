"""Which local copies go, and which stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mountkit.config.timeouts import Limits
from mountkit.errors import MountUnavailableError
from mountkit.events import Problem
from mountkit.proof.committer import Prover
from mountkit.proof.local_copies import LocalCopies
from support.fakes import FakeMount

LIMITS = Limits(stall=0.05, drain=60.0, repair=0.05)
FILES = ("model", "optimizer.pt", "trainer_state.json")


class Place:
    """A mount in which one process after another saves."""

    def __init__(self, mount: FakeMount) -> None:
        self.mount = mount
        self.events: list = []
        self.restart()

    def restart(self) -> None:
        copies = LocalCopies(self.mount, LIMITS, self.events.append)
        self.prover = Prover(self.mount, "out", LIMITS, self.events.append, copies)

    def settings(self, **fields) -> None:
        self.mount.spec = replace(self.mount.spec, **fields)

    def save(self, step: int, size: int = 10) -> None:
        name = f"checkpoint-{step}"
        self.prover.begin(name)
        for file in FILES:
            self.mount.save(f"out/{name}/{file}", bytes(size))
        self.prover.prove(name, step, FILES)

    def here(self) -> dict[int, int]:
        """How many files of each checkpoint are on this machine."""
        found: dict[int, int] = {}
        for path in self.mount.daemon.listed:
            step = int(path.split("/")[1].removeprefix("checkpoint-"))
            found[step] = found.get(step, 0) + 1
        return found

    @property
    def words(self) -> str:
        return "\n".join(each.reason for each in self.events if isinstance(each, Problem))


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(FakeMount(tmp_path))


class TestKeepLocal:
    @pytest.mark.parametrize(
        ("keep", "left"), [("newest", {3: 3}), ("none", {}), ("all", {1: 3, 2: 3, 3: 3})]
    )
    def test_which_stay(self, place, keep, left):
        place.settings(keep_local=keep)
        for step in (1, 2, 3):
            place.save(step)
        assert place.here() == left
        assert place.words == ""

    def test_the_newest_is_the_one_that_was_proven_last(self, place):
        place.save(9)
        place.save(3)
        assert place.here() == {3: 3}

    def test_a_file_in_use_goes_after_a_later_proof(self, place):
        path = "out/checkpoint-1/model"
        place.save(1)
        place.mount.daemon.open.add(path)
        place.save(2)
        assert place.here() == {1: 1, 2: 3}
        place.mount.daemon.open.clear()
        place.save(3)
        assert place.here() == {3: 3}

    def test_while_the_state_is_in_use_all_of_it_stays(self, place):
        place.save(1)
        place.mount.daemon.open.add("out/checkpoint-1/trainer_state.json")
        place.save(2)
        assert place.here() == {1: 3, 2: 3}

    def test_a_backend_that_keeps_no_files_is_asked_nothing(self, place):
        place.settings(backend="mountpoint")
        place.restart()
        for step in (1, 2):
            place.mount.save(f"out/checkpoint-{step}/model")
            place.prover.prove(f"checkpoint-{step}", step, ["model"])
        assert place.here() == {1: 1, 2: 1}


class TestUnproven:
    def test_what_was_written_after_the_proof_stays(self, place):
        place.save(1)
        place.mount.write("out/checkpoint-1/model", bytes(10))
        place.mount.write("out/checkpoint-1/README.md", b"more", dirty=True)
        place.save(2)
        assert {path for path in place.mount.daemon.listed if "checkpoint-1/" in path} == {
            "out/checkpoint-1/model",
            "out/checkpoint-1/README.md",
        }

    def test_what_is_written_anew_stays_until_it_is_proven_again(self, place):
        place.save(1)
        place.prover.withdraw("checkpoint-1")
        place.save(2)
        assert place.here() == {1: 3, 2: 3}
        place.save(1)
        assert place.here() == {1: 3}

    def test_without_a_manifest_nothing_goes(self, place):
        place.mount.save("out/checkpoint-1/model")
        place.mount.bucket.objects["run/out/checkpoint-7/mountkit-manifest.json"] = b"damaged"
        place.mount.save("out/checkpoint-7/model")
        place.save(2)
        place.save(3)
        assert place.here() == {1: 1, 7: 1, 3: 3}


class TestInherited:
    """What an earlier process has proven on the same mount."""

    def test_it_goes_as_well(self, place):
        place.settings(keep_local="all")
        place.save(1)
        place.settings(keep_local="newest")
        place.restart()
        place.save(2)
        assert place.here() == {2: 3}

    def test_but_not_what_is_another_file_by_its_bytes(self, place):
        place.settings(keep_local="all")
        place.save(1)
        path = "out/checkpoint-1/model"
        (place.mount.daemon.cache / path).write_bytes(b"0123456789")
        place.settings(keep_local="newest")
        place.restart()
        place.save(2)
        assert {file for file in place.mount.daemon.listed if "checkpoint-1/" in file} == {path}


class TestCacheSize:
    def test_before_a_save_the_oldest_go_as_far_as_needed(self, place):
        place.settings(keep_local="all", cache_size=100)
        for step in (1, 2, 3):
            place.save(step)
        assert place.here() == {1: 3, 2: 3, 3: 3}
        place.save(4)
        assert place.here() == {2: 3, 3: 3, 4: 3}
        assert place.words == ""

    def test_so_does_the_newest_where_there_is_room_for_one(self, place):
        place.settings(cache_size=40)
        for step in (1, 2, 3):
            place.save(step)
            assert place.here() == {step: 3}
        assert place.words == ""

    def test_what_is_not_proven_stays_and_is_told_once(self, place):
        place.settings(cache_size=40)
        place.mount.write("final/model", bytes(2_000_000), dirty=True)
        place.mount.daemon.listed["out/checkpoint-0/model"] = place.mount.daemon.listed.pop(
            "final/model"
        )
        place.save(1)
        place.save(2)
        place.save(2)
        assert place.here() == {0: 1, 2: 3}
        assert place.words.count("may take more than cache_size") == 2
        assert "2 MB wait on this machine" in place.words


class TestTrouble:
    @pytest.mark.parametrize("step", [2, 3])
    def test_it_is_told_and_ends_no_training(self, place, step):
        place.save(1)
        place.mount.daemon.evict_error = OSError(22, "Invalid argument")
        for each in range(2, step + 1):
            place.save(each)
        assert place.words.count("stay for now") == 1
        assert "Invalid argument" in place.words
        place.mount.daemon.evict_error = None
        place.save(step + 1)
        assert place.here() == {step + 1: 3}

    def test_so_it_is_where_the_store_is_away(self, place, monkeypatch):
        def away(*_, **__):
            raise MountUnavailableError("away", hint="wait")

        monkeypatch.setattr(place.mount, "store", away)
        place.save(1)
        assert "stay for now: away" in place.words
