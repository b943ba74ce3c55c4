"""What a training is resumed with is loaded whole, whatever happens to the mount."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mountkit.errors import MountUnavailableError

pytest.importorskip("transformers", reason="transformers is not installed")

from mountkit.training.resume_loading import LOADS, TRIES, load
from mountkit.training.trainer_hooks import Call


class Mount:
    """Each time that something is loaded, one loss more may be noted."""

    path = "/mnt"

    def __init__(self) -> None:
        self.lost: list[float] = []
        self.waited = 0

    def wait_until_serving(self, _: float) -> None:
        self.waited += 1

    def serving(self) -> bool:
        return True

    def record(self):
        return SimpleNamespace(lost=tuple(self.lost))


@pytest.fixture
def mount() -> Mount:
    return Mount()


def attempt(mount, method, trainer=None, checkpoint="/mnt/checkpoint-2"):
    call = Call(method, (checkpoint,), {})
    return load(trainer or SimpleNamespace(), call, lambda _: mount)


def test_what_was_loaded_while_the_mount_was_lost_is_loaded_once_more(mount, capsys):
    seen = []

    def method(checkpoint):
        seen.append(checkpoint)
        if len(seen) == 1:
            mount.lost.append(1.0)
        return len(seen)

    assert attempt(mount, method) == 2
    assert mount.waited == 2
    assert "loaded once more" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [OSError("Transport endpoint is not connected"), ValueError("no valid checkpoint")]
)
def test_an_error_of_a_mount_that_is_lost_is_none_and_any_other_is_one(mount, error):
    def method(_):
        if not mount.lost:
            mount.lost.append(1.0)
            raise error
        raise OSError("the disk is broken")

    with pytest.raises(OSError, match="the disk is broken"):
        attempt(mount, method)


def test_a_mount_that_is_lost_again_and_again_ends_it(mount):
    with pytest.raises(MountUnavailableError, match="was lost while /mnt/checkpoint-2"):
        attempt(mount, lambda _: mount.lost.append(1.0))
    assert len(mount.lost) == TRIES


def test_one_of_many_that_load_together_does_not_do_so_alone(mount):
    trainer = SimpleNamespace(is_fsdp_enabled=True)
    with pytest.raises(MountUnavailableError):
        attempt(mount, lambda _: mount.lost.append(1.0), trainer)
    assert len(mount.lost) == 1


def test_elsewhere_and_without_a_checkpoint_nothing_is_looked_at(mount):
    assert attempt(None, lambda checkpoint: checkpoint) == "/mnt/checkpoint-2"
    assert attempt(mount, lambda checkpoint: checkpoint, checkpoint=None) is None
    assert mount.waited == 0


def test_the_state_is_loaded_once_more_too(mount):
    calls = []

    def init(max_steps, updates, epochs, resume_from_checkpoint, trial):
        calls.append(resume_from_checkpoint)
        if len(calls) == 1:
            mount.lost.append(1.0)
        return len(calls)

    call = Call(init, (10, 5, 1, "/mnt/checkpoint-2", None), {})
    found = load(SimpleNamespace(), call, lambda _: mount, name="_init_training_state")
    assert found == 2
    assert calls == ["/mnt/checkpoint-2"] * 2


def test_a_training_from_the_start_loads_nothing(mount):
    call = Call(lambda *_: 1, (10, 5, 1, None, None), {})
    assert load(SimpleNamespace(), call, lambda _: mount, name="_init_training_state") == 1
    assert mount.waited == 0


def test_every_transformers_that_is_known_has_what_is_watched():
    from inspect import signature

    from transformers import Trainer

    for name, position in LOADS.items():
        words = list(signature(getattr(Trainer, name)).parameters)[1:]
        if words:
            assert words[position] in {"resume_from_checkpoint", "checkpoint"}, name


@pytest.mark.parametrize(("step", "ends"), [(2, False), (0, True)])
def test_a_training_that_is_not_where_its_checkpoint_is_does_not_begin(mount, tmp_path, step, ends):
    (tmp_path / "trainer_state.json").write_text('{"global_step": 2}')
    trainer = SimpleNamespace(state=SimpleNamespace(global_step=step))
    if not ends:
        assert attempt(mount, lambda _: 1, trainer, str(tmp_path)) == 1
        return
    with pytest.raises(MountUnavailableError, match=r"begin at step 0.*of step 2"):
        attempt(mount, lambda _: 1, trainer, str(tmp_path))
