"""Signals of this process: handled for a while, and given back."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: Those by which a terminal or a platform asks a program to end.
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


def leave(number: int, _: object) -> NoReturn:
    """A handler that ends the program, but not before all is cleared up on the way out."""
    raise SystemExit(128 + number)
