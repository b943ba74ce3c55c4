"""The one proof that is under way beside the training."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future


class PendingProof:
    """At most one; ``name`` is that of the last one's checkpoint."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mountkit-proof")
        self._proof: Future[None] | None = None
        self.name = ""

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

    def finish(self) -> None:
        """Wait for it, if there is one, and raise what it ended with, once.

        Bounded: the proof itself ends when nothing moves for the stall timeout.
        """
        proof, self._proof = self._proof, None
        if proof is not None:
            proof.result()
