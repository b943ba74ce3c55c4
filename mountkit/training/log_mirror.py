"""Copies of the logs, made beside the training: it waits for none of them while it trains.

Through Mountpoint a file is closed once it is in the store, however long that takes.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class LogMirror:
    """One copy at a time, in a thread of its own.

    Parameters
    ----------
    copy:
        Copies what has changed; what could not be copied, in words.
    tell:
        Hears that of each copy, from the thread that made it.

    """

    def __init__(
        self, copy: Callable[[], Sequence[str]], tell: Callable[[Sequence[str]], None]
    ) -> None:
        self._copy = copy
        self._tell = tell
        self._changed = threading.Condition()
        self._asked = self._done = 0
        self._running = False
        self._complete = True

    @property
    def busy(self) -> bool:
        """Whether a copy is under way."""
        with self._changed:
            return self._running

    def ask(self) -> None:
        """Have all that is written by now copied; return at once."""
        with self._changed:
            self._asked += 1
            if not self._running:
                self._running = True
                # A copy into a mount that hangs must not keep the process from its end.
                threading.Thread(target=self._work, name="mountkit-logs", daemon=True).start()

    def finish(self, seconds: float) -> bool:
        """Copy what is left, and wait for it; whether all of it was copied within ``seconds``."""
        self.ask()
        with self._changed:
            wanted = self._asked
            over = self._changed.wait_for(lambda: self._done >= wanted, seconds)
            return over and self._complete

    def _work(self) -> None:
        while True:
            with self._changed:
                asked = self._asked
            try:
                problems = [*self._copy()]
            except Exception as error:  # noqa: BLE001 - told; the next copy is made all the same
                problems = [f"the copy of the logs broke off: {type(error).__name__}: {error}"]
            with self._changed:
                self._done, self._complete = asked, not problems
                more = self._running = self._asked > asked
                self._changed.notify_all()
            self._tell(problems)
            if not more:
                return
