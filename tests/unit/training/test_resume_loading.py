"""What a training is resumed with is loaded whole, whatever happens to the mount."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mountkit.errors import MountUnavailableError

pytest.importorskip("transformers", reason="transformers is not installed")

from mountkit.training.resume_loading import TRIES, load
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
