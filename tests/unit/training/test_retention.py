"""Which proven checkpoints are known, while a training and the thread of its proofs change that."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from mountkit.events import CheckpointRemoved, Problem
from mountkit.training.retention import Retention

# In which a thread that nothing holds back has long done its work.
TURN_SECONDS = 0.3


class Removing:
    """Stands for the prover: removes checkpoints, and lets the training do something meanwhile."""

    def __init__(self, meanwhile=lambda _: None) -> None:
        self.removed: list[str] = []
        self._meanwhile = meanwhile

    def remove(self, name: str) -> bool:
        self._meanwhile(name)
        self.removed.append(name)
        return True


def kept(*steps: int, observer=lambda _: None, began_at: int = 0, keep: int = 1) -> Retention:
    """A training that has proven these, and keeps the last one."""
    retention = Retention((), began_at, keep, observer)
    for step in steps:
        retention.proved(step, f"checkpoint-{step}")
    return retention


@pytest.mark.fault(20)
@pytest.mark.parametrize("ask", ["forget", "holds"])
def test_a_save_at_a_step_that_is_being_removed_begins_when_that_is_over(ask):
    seen = []

    def save_again(name: str) -> None:
        training.start()
        training.join(TURN_SECONDS)
        seen.append("removed")

    def save() -> None:
        seen.append(getattr(retention, ask)(10))

    training = threading.Thread(target=save)
    retention = kept(10, 20)
    retention.enforce(Removing(save_again), 20, None)
    training.join(60.0)
    assert seen in (["removed", None], ["removed", False])
    assert not retention.holds(10)


@pytest.mark.fault(20)
@pytest.mark.parametrize("foreign", [False, True], ids=["its own", "another's"])
def test_one_that_is_being_written_anew_is_not_removed(foreign):
    told = []

    def observer(event) -> None:
        told.append(event)
        if event == CheckpointRemoved(10):
            assert retention.forget(20) == "checkpoint-20"

    found = (
        [SimpleNamespace(step=n, name=f"checkpoint-{n}", proven=True, saved=None) for n in (10, 20)]
        if foreign
        else []
    )
    retention = Retention(found, 0, 1, observer)
    for step in (30,) if foreign else (10, 20, 30):
        retention.proved(step, f"checkpoint-{step}")
    prover = Removing()
    retention.enforce(prover, 30, None)
    assert prover.removed == ["checkpoint-10"]
    assert [event for event in told if isinstance(event, CheckpointRemoved)] == [
        CheckpointRemoved(10)
    ]
    assert sum(isinstance(event, Problem) for event in told) == foreign


def test_of_a_step_that_is_not_there_there_is_no_name():
    retention = kept(10)
    assert retention.forget(11) is None
    assert retention.forget(10) == "checkpoint-10"
    assert retention.forget(10) is None
