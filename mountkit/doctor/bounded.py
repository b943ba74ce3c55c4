"""Work that may never come back, done in a thread that can be left behind."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, TypeVar

from mountkit.linux import unanswered

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """What ``work`` returns, or raises.

    Raises TimeoutError if it waits longer than ``seconds`` (see ``unanswered``). The thread is left
    to itself, and does not keep the process from ending.
    """
    outcome: queue.SimpleQueue[tuple[Result | None, Exception | None]] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            outcome.put((work(), None))
        except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
            outcome.put((None, error))

    thread = threading.Thread(target=attempt, name="doctor", daemon=True)
    thread.start()
    result, error = unanswered.answer(outcome, thread, seconds)
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # without an error it is what work returned
