"""A rank's part in the proof of a checkpoint that it has saved together with others."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.proof.rank_receipts import Share, await_ranks
from mountkit.training.saved_files import saved_files

if TYPE_CHECKING:
    from mountkit.checkpoints.receipt import Layout
    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount


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
        self, mount: Mount, below: str, layout: Layout, limits: Limits, *, states: bool
    ) -> None:
        self._mount = mount
        self._below = below
        self._layout = layout
        self._limits = limits
        self._states = states
        self._stopped = threading.Event()

    def path(self, name: str) -> str:
        """A checkpoint, relative to the mount."""
        return "/".join(part for part in (self._below, name) if part)

    def done(self, name: str, save: str) -> Share:
        """Say that this rank's part of a save is over; what the proof has to know of it."""
        self._mount.directory.ranks.done(self.path(name), save, self._layout.rank)
        return Share(self._layout, save, self._states, stopped=self._stopped)

    def files(self, name: str, share: Share) -> tuple[str, ...]:
        """What this node's ranks have saved, once all of them have. In the thread of the proof."""
        top = self.path(name)
        await_ranks(self._mount, top, share, self._limits)
        several = len(self._layout.nodes) > 1
        return saved_files(self._mount, Path(self._mount.path) / top, self._limits, shared=several)

    def stop(self) -> None:
        """Nobody waits for a proof any more: the training has ended."""
        self._stopped.set()
