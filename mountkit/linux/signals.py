"""Signals of this process: handled for a while, or held back, and given back."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

#: Those by which a terminal or a platform asks a program to end; their handlers may raise.
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@contextmanager
def handled(
    numbers: Iterable[signal.Signals], handler: Callable[[int, Any], Any] | signal.Handlers
) -> Iterator[None]:
    """While this lasts, ``handler`` has these signals; then whoever had them before.

    Only the main thread may handle signals. In another one they stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def held_back() -> Iterator[None]:
    """What comes meanwhile is handled at the end of the block, by whoever handled it before.

    For the moment in which something changes hands that nobody would end else. Only Python's own
    handlers are held back, and those run in the main thread: a signal that ends the process, or is
    ignored, does so all the same.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    came: list[int] = []
    holding = True

    def hold(number: int, frame: FrameType | None) -> None:
        if holding:
            came.append(number)
        else:
            # A handler that raised kept the others from being set back.
            handlers[signal.Signals(number)](number, frame)

    try:
        with handled(handlers, hold):
            try:
                yield
            finally:
                holding = False
    finally:
        for early in dict.fromkeys(came):
            signal.raise_signal(early)


def leave(number: int, _: object) -> NoReturn:
    """A handler that ends the program, but not before all is cleared up on the way out."""
    raise SystemExit(128 + number)
