"""A rank's part in the proof of a checkpoint that it has saved together with others."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.proof.rank_receipts import Share, await_ranks
from mountkit.training.save_retry import SaveRetrier
from mountkit.training.saved_files import saved_files

if TYPE_CHECKING:
    from mountkit.checkpoints.receipt import Layout
    from mountkit.config.timeouts import Limits
    from mountkit.events import Observer
    from mountkit.mounts.mount import Mount
    from mountkit.proof.committer import Prover
    from mountkit.training.ranks import Ranks


class SharedProof:
    """What one training's ranks tell each other of their saves, past the bucket.

    Parameters
    ----------
    below:
        ``output_dir``, relative to the mount.
    states:
        Whether each rank saves its random state.

    """

    def __init__(
        self,
        mount: Mount,
        below: str,
        prover: Prover,
        limits: Limits,
        observer: Observer,
        *,
        ranks: Ranks,
        layout: Layout,
        states: bool,
    ) -> None:
        self._mount = mount
        self._below = below
        self._layout = layout
        self._limits = limits
        self._states = states
        self._stopped = threading.Event()
        #: Gives a save its name, and makes it again if it was torn.
        self.retrier = SaveRetrier(mount, prover, limits, observer, ranks=ranks, path=self.path)
        #: The step that was saved on a signal: no ``on_save`` tells of it. -1 if none was.
        self.unannounced = -1

    def path(self, name: str) -> str:
        """A checkpoint, relative to the mount."""
        return "/".join(part for part in (self._below, name) if part)

    def done(self, step: int) -> Share:
        """Say that this rank's part of a save is over; what the proof has to know of it."""
        save = self.retrier.made
        self._mount.directory.ranks.done(self.path(f"checkpoint-{step}"), save, self._layout.rank)
        return Share(self._layout, save, self._states, stopped=self._stopped)

    def begin(self, step: int) -> None:
        """A save begins: the drain proves one that was made on a signal before."""
        if self.unannounced >= 0:
            self.done(self.unannounced)
        self.unannounced = step

    def files(self, name: str, share: Share) -> tuple[str, ...]:
        """What this node's ranks have saved, once all of them have. In the thread of the proof."""
        top = self.path(name)
        await_ranks(self._mount, top, share, self._limits)
        several = len(self._layout.nodes) > 1
        place = Path(self._mount.path) / top
        return saved_files(self._mount, place, self._limits, shared=several) or ()

    def stop(self) -> None:
        """Nobody waits for a proof any more: the training has ended."""
        self._stopped.set()
