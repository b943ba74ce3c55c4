"""Whether a mount's daemon may still be started: not once somebody takes the mount away."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mountkit.errors import MountUnavailableError
from mountkit.linux.signals import held_back

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mountkit.spec import MountSpec

# For making one process.
MADE_SECONDS = 5.0


class StartGate:
    """Open until the end; for the thread that mounts, and for the one that takes away."""

    def __init__(self, spec: MountSpec) -> None:
        self._spec = spec
        self._making = threading.Lock()
        self._over = threading.Event()

    def shut(self) -> None:
        """From now on no daemon is started any more, and one that comes up is given up.

        Waits, for some seconds at most, while a process is just being made.
        """
        self._over.set()
        if self._making.acquire(timeout=MADE_SECONDS):
            self._making.release()

    def check(self) -> None:
        """Go on only while it is open.

        Raises MountUnavailableError if it is shut.
        """
        if self._over.is_set():
            raise MountUnavailableError(
                f"{self._spec.target} is being taken away, and not mounted again.",
                hint=f"Mount it anew: mountkit mount {self._spec.source.url} {self._spec.target}",
            )

    @contextmanager
    def making(self) -> Iterator[None]:
        """While a daemon is made and noted: a signal in between would leave one nobody knows of."""
        with self._making, held_back():
            self.check()
            yield
