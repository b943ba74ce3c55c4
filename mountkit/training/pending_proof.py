"""The one proof that is under way beside the training."""

from __future__ import annotations

import os
import weakref
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future


#: All of this process: a training that begins waits for those of the ones before it.
_ALL: weakref.WeakSet[PendingProof] = weakref.WeakSet()


class PendingProof:
    """At most one; ``name`` is that of the last one's checkpoint."""

    def __init__(self) -> None:
        self.name = ""
        self.forget()
        _ALL.add(self)

    def forget(self) -> None:
        """Have none under way: a process that was forked meanwhile has not its thread."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mountkit-proof")
        self._proof: Future[None] | None = None

    def begin(self, name: str, work: Callable[..., None], *arguments: Any) -> None:
        """Prove a checkpoint, in a thread."""
        self.name = name
        self._proof = self._pool.submit(work, *arguments)

    @property
    def under_way(self) -> bool:
        """Whether one has begun and not ended."""
        return self._proof is not None and not self._proof.done()

    @property
    def failed(self) -> bool:
        """Whether one has ended with an error that nobody has heard of yet."""
        proof = self._proof
        return proof is not None and proof.done() and proof.exception() is not None

    def settle(self) -> None:
        """Wait until it has ended, if there is one; its error is raised by ``finish``. Bounded."""
        if self._proof is not None:
            wait([self._proof])

    def finish(self) -> None:
        """Wait for it, if there is one, and raise what it ended with, once.

        Bounded: the proof itself ends when nothing moves for the stall timeout.
        """
        proof, self._proof = self._proof, None
        if proof is not None:
            proof.result()


def settle_all(tell: Callable[[str], object]) -> None:
    """Wait for what trainings that have ended are still proving.

    What it proves is where the next one goes on from; to save on top of it would put it at risk.
    """
    for proof in [*_ALL]:
        if proof.under_way:
            tell(f"the training waits until {proof.name} of the one before is proven")
            proof.settle()


def _forget_all() -> None:
    for proof in [*_ALL]:
        proof.forget()


os.register_at_fork(after_in_child=_forget_all)
