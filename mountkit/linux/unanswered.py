"""Work that may never come back, in a thread. Time in which it could not run is no silence.

A machine that loads models and data at the start of a job is busy: a thread then waits for a
processor, or for the disk it is read from, and the store has not even been asked.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mountkit.linux.process import stat_of

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

TURN_SECONDS = 0.1
# All waits together, silence or not: so much longer than the limit of the silence.
BUSY_SECONDS = 60.0
# Of a thread, by proc(5): it runs or could, or it waits for a disk.
AT_WORK = frozenset("RD")


class SilentError(TimeoutError):
    """There was no answer for as long as it may take."""


class BusyError(TimeoutError):
    """The thread hardly ran, so nobody knows whether there would have been an answer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A thread at one moment: its state, and for how long it ran or waited for a processor."""

    state: str
    seconds: float


class Silence:
    """For how long a thread has waited for an answer, by what is seen of it now and then."""

    def __init__(self, now: float, own: float) -> None:
        self.seconds = 0.0
        self._at = now
        self._before = own

    def look(self, now: float, seen: Seen, own: float) -> None:
        """A turn is over, in which whoever looks may not have run either.

        ``own`` is for how long that one ran or waited for a processor: with the interpreter's lock
        it then kept the other thread from running.
        """
        past = min(now - self._at, 2 * TURN_SECONDS)
        if seen.state not in AT_WORK:
            # A thread that has just ended is seen as if it had never run.
            busy = max(0.0, seen.seconds + own - self._before)
            self.seconds += max(0.0, past - busy)
        self._at, self._before = now, seen.seconds + own


def see(thread: threading.Thread) -> Seen:
    """A thread of this process; where the kernel does not say, it counts as waiting."""
    place = Path(f"/proc/self/task/{thread.native_id}")
    try:
        state = stat_of(place)[0]
        ran, delayed = (place / "schedstat").read_text().split()[:2]
        return Seen(state, (int(ran) + int(delayed)) / 1e9)
    except (OSError, ValueError, IndexError):
        return Seen("", 0.0)


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """What ``work`` returns, or raises, in a thread of its own.

    Raises SilentError if it has waited ``seconds`` for something else than this machine; BusyError
    if it has not come that far by then and ``BUSY_SECONDS`` more. The thread is then left to
    itself, and does not keep the process from ending.
    """
    outcome: queue.SimpleQueue[tuple[Result | None, Exception | None]] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            outcome.put((work(), None))
        except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
            outcome.put((None, error))

    thread = threading.Thread(target=attempt, name="mountkit-within", daemon=True)
    thread.start()
    result, error = answer(outcome, thread, seconds)
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # without an error it is what work returned


def answer(outcome: queue.SimpleQueue[Result], thread: threading.Thread, seconds: float) -> Result:
    """What the thread puts into the queue. Raises SilentError or BusyError, as ``within``."""
    began = time.monotonic()
    me = threading.current_thread()
    silence = Silence(began, see(me).seconds)
    while True:
        try:
            return outcome.get(timeout=max(0.01, min(TURN_SECONDS, seconds - silence.seconds)))
        except queue.Empty:
            now = time.monotonic()
        silence.look(now, see(thread), see(me).seconds)
        if silence.seconds >= seconds:
            raise SilentError
        if now - began >= seconds + BUSY_SECONDS:
            raise BusyError
