"""Which proven checkpoints a training keeps: its own first, and those that it descends from."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mountkit import names
from mountkit.checkpoints import lineage, retention
from mountkit.errors import MountUnavailableError
from mountkit.events import CheckpointRemoved, Observer, Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from mountkit.checkpoints.catalog import Candidate
    from mountkit.proof.committer import Prover


class Retention:
    """The proven checkpoints of one place, while one training saves there.

    The training forgets those that it is about to write anew, while the thread of the proofs adds
    and removes others.

    Parameters
    ----------
    found:
        What was there when it began.
    began_at:
        The step at which it began: 0 from the start, else that of the checkpoint it was resumed
        from, which stays. It descends from that one, and from what led to it.
    keep:
        ``save_total_limit``.

    """

    def __init__(
        self,
        found: Collection[Candidate],
        began_at: int,
        keep: int | None,
        observer: Observer,
    ) -> None:
        # Held while a checkpoint is removed: a save at its step begins once that is over.
        self._lock = threading.Lock()
        self._known = {each.step: each.name for each in found if each.proven}
        # What this training saved itself, or was resumed from.
        self.own = {began_at} if began_at else set()
        self._protected = frozenset(self.own)
        saved = {each.step: each.saved for each in found if each.proven}
        self._foreign = self._known.keys() - {*lineage.descent(saved, began_at)}
        self._began_at = began_at
        self._keep = keep
        self._observer = observer

    def announce(self, place: str) -> None:
        """Say by name what others have left there, and what will become of it."""
        if not self._foreign:
            return
        names = _listed(self._foreign)
        start = f"resumed at step {self._began_at}" if self._began_at else "begun from the start"
        fate = (
            "None of them is removed"
            if self._keep is None or self._keep <= 0
            else "As it proves its own, they are removed, "
            f"the oldest first (save_total_limit={self._keep})"
        )
        self._observer(
            Problem(
                f"{place} has checkpoints of another training, from which this one, {start}, does "
                f"not descend: {names}. {fate}; what is saved at the same step replaces them. "
                "`mountkit latest` gives one of them until this training has proven its first."
            )
        )

    def holds(self, step: int) -> bool:
        """Whether there is a proven checkpoint of that step. Waits while one is being removed."""
        with self._lock:
            return step in self._known

    def forget(self, step: int) -> str | None:
        """It is written anew, and no longer proven: its name, None if there is none of that step.

        Waits while one is being removed: the removal would take files of the save with it.
        """
        with self._lock:
            return self._drop(step)

    def _drop(self, step: int) -> str | None:
        self._foreign.discard(step)
        return self._known.pop(step, None)

    def proved(self, step: int, name: str) -> None:
        """A checkpoint of this training is proven."""
        with self._lock:
            self._known[step] = name
            self.own.add(step)
            self._foreign.discard(step)

    def enforce(self, prover: Prover, newest: int, best: int | None) -> None:
        """Remove proven checkpoints beyond the limit; only ever after a newer proof."""
        protected = {*self._protected, newest}
        if best is not None:
            protected.add(best)
        try:
            for step in self._beyond(protected):
                with self._lock:
                    foreign, name = step in self._foreign, self._known.get(step)
                    # The training may be writing it anew by now.
                    gone = name is not None and prover.remove(name)
                    if gone:
                        self._drop(step)
                if gone and foreign:
                    self._observer(Problem(f"{name} of another training is removed"))
                if gone:
                    self._observer(CheckpointRemoved(step))
        except MountUnavailableError as error:
            # The newest one is proven; the older ones go after the next.
            self._observer(Problem(f"Older checkpoints stay for now: {error.message}"))

    def _beyond(self, protected: Collection[int]) -> Iterable[int]:
        with self._lock:
            known, foreign = tuple(self._known), frozenset(self._foreign)
        return retention.retention(known, self._keep, protected, foreign=foreign)


def _listed(steps: Iterable[int]) -> str:
    return ", ".join(f"checkpoint-{step}" for step in sorted(steps))


def best_step(state: Any) -> int | None:
    """The step of the best checkpoint so far, if Trainer keeps track of one."""
    best = state.best_model_checkpoint
    return names.step_of(Path(best).name) if best else None
