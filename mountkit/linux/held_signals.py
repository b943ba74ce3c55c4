"""Hold signals back for the moment in which something changes hands that nobody would end else."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

#: Those whose handlers may raise: an interrupt, and what a platform or a terminal ends a run with.
HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def held_back() -> Iterator[None]:
    """What comes meanwhile is handled at the end of the block, by whoever handled it before.

    Only Python's own handlers are held back, and those run in the main thread: a signal that ends
    the process, or is ignored, does so all the same. To be held for moments.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in HELD}
    holding = True

    def hold(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if holding:
            came.append(number)
        elif callable(handler):
            # A handler that raised kept the others from being set back.
            handler(number, frame)

    try:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, hold)
        yield
    finally:
        holding = False
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)
        for early in dict.fromkeys(came):
            signal.raise_signal(early)
