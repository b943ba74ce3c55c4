"""Which checkpoints of a place belong to one training, by when each was saved.

A training saves at ever higher steps. Where a lower step was saved after a higher one, another
training has begun below it: from the start, or from a checkpoint in the middle. The higher one is
then of a branch that was left.

A manifest says when its checkpoint was *saved*: what is merely proven again later keeps its place.
No clock is trusted further than to order the saves of one run: a run puts its saves after all that
it finds, however the clocks of two machines differ.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Of a manifest that does not say: it is older than one that does, and goes by its step.
_UNKNOWN = datetime.min.replace(tzinfo=UTC)


def descent(saved: Mapping[int, datetime | None], end: int | None = None) -> tuple[int, ...]:
    """The steps that belong to the training that saved last, the newest first.

    ``saved``: The step of every proven checkpoint, and when it was saved. ``end``: Only those that
    a training descends from which goes on after this step; none for 0, with which a training from
    the start begins.
    """
    order = sorted(saved, key=lambda step: (saved[step] or _UNKNOWN, step), reverse=True)
    if end == 0:
        return ()
    if end is not None and end in saved:
        order = order[order.index(end) :]
    bound = None if end is None else end + 1
    line: list[int] = []
    for step in order:
        if bound is None or step < bound:
            line.append(step)
            bound = step
    return tuple(line)


def after(moment: float, began: float, others: Iterable[datetime | None]) -> datetime:
    """When a run saved: ``moment``, but after all that ``others`` have saved in the same place.

    ``moment``, ``began``: When it saved, and when the run began, in seconds since the epoch.
    ``others``: When the checkpoints that it did not save were saved.
    """
    own = datetime.fromtimestamp(moment, UTC)
    known = [each for each in others if each]
    if not known:
        return own
    since = timedelta(seconds=max(0.0, moment - began), microseconds=1)
    return max(own, max(known) + since)


class Clock:
    """Tells when a training saves: later each time, and after all that it found."""

    def __init__(self, others: Iterable[datetime | None]) -> None:
        now = time.time()
        self._base = after(now, now, others)
        self._began = time.monotonic()

    def now(self) -> datetime:
        """What a checkpoint that was saved just now has for ``saved``."""
        return self._base + timedelta(seconds=time.monotonic() - self._began)
