"""Which checkpoint a training can go on from: by its files, in a store and in a directory."""

from __future__ import annotations

import pytest

from mountkit.checkpoints import newest, resumable
from mountkit.checkpoints.resumable import refusal

WHOLE = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


@pytest.mark.fault(24)
class TestRefusal:
    @pytest.mark.parametrize(
        "files",
        [
            WHOLE,
            # Two ranks, whose states the first gathers.
            ("optimizer.bin", "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth", WHOLE[-1]),
            # FSDP's, in a folder and in files of each rank.
            ("optimizer_0/__0_0.distcp", "scheduler.pt", "rng_state_0.pth", WHOLE[-1]),
            ("optimizer_0_rank1.bin", "scheduler.pt", "rng_state_1.pth", WHOLE[-1]),
            # DeepSpeed has a scheduler of its own in its states.
            (
                "global_step4/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
                "rng_state_0.pth",
                WHOLE[-1],
            ),
            ("rank0-of-2-optimizer.pt", "scheduler.pt", "rng_state_0.pth", WHOLE[-1]),
        ],
    )
    def test_what_has_all_is_taken(self, files):
        assert refusal(files) == ""

    @pytest.mark.parametrize(
        ("missing", "named"),
        [
            ("optimizer.pt", "no optimizer"),
            ("scheduler.pt", "no scheduler"),
            ("rng_state.pth", "no RNG state"),
            ("trainer_state.json", "no trainer_state.json"),
        ],
    )
    def test_what_is_missing_is_named(self, missing, named):
        said = refusal([name for name in WHOLE if name != missing])
        assert said.endswith(named)
        # Somewhere else it is none of this training's.
        assert refusal([*(n for n in WHOLE if n != missing), f"runs/{missing}"]) == said

    def test_weights_alone_name_all_that_is_missing(self):
        assert refusal(["model.safetensors", "config.json"]).endswith(
            "no trainer_state.json, no optimizer, no scheduler, no RNG state"
        )
        assert refusal(["model.safetensors"], weights_only=True) == ""

    def test_a_name_that_is_only_like_it_is_none(self):
        files = [*WHOLE[2:], "my_optimizer.pt", "optimizer.pt.tmp", "global_step1/zero_to_fp32.py"]
        assert resumable.refusal(files).endswith("has no optimizer")


@pytest.fixture
def place(tmp_path):
    def save(step: int, *files: str, **content: str) -> None:
        top = tmp_path / f"checkpoint-{step}"
        top.mkdir()
        for name in files:
            (top / name).write_text(content.get(name.partition(".")[0], "{}"))

    save.path = tmp_path
    return save


class TestInDirectory:
    """Outside a mount no store says anything: a directory by its files."""

    def found(self, place, **options):
        skipped: dict[str, str] = {}
        name = newest.in_directory(place.path, on_skip=skipped.__setitem__, **options)
        return name, skipped

    @pytest.mark.fault(22)
    def test_the_highest_step_that_is_whole(self, place):
        place(9, *WHOLE)
        place(10, *WHOLE)
        place(100)
        place(101, *WHOLE, newest.INCOMPLETE)
        place(102, *WHOLE, trainer_state='{"global_st')
        name, skipped = self.found(place)
        assert name == "checkpoint-10"
        assert [*skipped] == ["checkpoint-102", "checkpoint-101", "checkpoint-100"]
        assert all(skipped.values())

    @pytest.mark.fault(24)
    def test_weights_alone_have_to_be_asked_for(self, place):
        place(2, *WHOLE)
        place(4, "model.safetensors")
        name, skipped = self.found(place)
        assert (name, [*skipped]) == ("checkpoint-2", ["checkpoint-4"])
        assert self.found(place, weights_only=True) == ("checkpoint-4", {})

    @pytest.mark.fault(23)
    def test_a_first_run_has_none(self, place):
        assert self.found(place) == (None, {})
        (place.path / "checkpoint-7").write_text("no directory")
        place.path /= "not-there"
        assert self.found(place) == (None, {})
