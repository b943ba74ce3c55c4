"""Keep the lease of a run for as long as its mount is there, and end the mount once it is lost.

From a thread of its own: a store that does not answer must not keep the mount from being watched.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from mountkit.checkpoints import lease_object
from mountkit.checkpoints.lease import RENEW_SECONDS
from mountkit.checkpoints.lease_object import Lost
from mountkit.errors import MountkitError
from mountkit.events import LeaseLost, Problem, guarded
from mountkit.state import writer_epoch
from mountkit.state.writer_epoch import WriterEpoch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    from mountkit.checkpoints.lease_object import Held
    from mountkit.events import Observer
    from mountkit.store.base import Store
    from mountkit.timing import Deadline

    #: Who keeps the lease of a mount, if it has one.
    Keeping: TypeAlias = "LeaseKeeper | NoLease"

logger = logging.getLogger("mountkit")

# Soon after the start it is seen whether two have begun at once, where the store lets them.
FIRST_SECONDS = 3.0
RETRY_SECONDS = 2.0
# For a request under way at the end, which may come within the grace of a signal.
END_SECONDS = 3.0


class NoLease:
    """A mount without a lease: it tries what works, or may not write one."""

    lost = ""

    def guard(self, fence: Callable[[str], object]) -> None:
        """There is nothing to lose."""

    def bound(self, deadline: Deadline) -> None:
        """There is nothing to lose."""

    def stop(self) -> None:
        """Nobody renews it."""

    def release(self) -> None:
        """Nobody waits for it."""


class LeaseKeeper:
    """Renews the lease of one mount from a thread of its own.

    Parameters
    ----------
    open_store:
        Opens the run's store, called once and in the thread: its client takes time to load.
    held:
        The lease as it was taken.
    directory:
        The mount's private directory: all of its processes find the epoch there.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        held: Held,
        directory: Path,
        observer: Observer,
        *,
        first: float = FIRST_SECONDS,
        every: float = RENEW_SECONDS,
        retry: float = RETRY_SECONDS,
    ) -> None:
        self._open_store = open_store
        self._store: Store | None = None
        self._directory = directory
        self._tell = guarded(observer)
        self._first, self._every, self._retry = first, every, retry
        self.held = held
        #: Who has the lease now, once it is lost.
        self.lost = ""
        self._fence: Callable[[str], object] | None = None
        self._deadline: Deadline | None = None
        self._unrenewed = ""
        self._told_advisory = False
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="mountkit-lease", daemon=True)
        self._epoch = WriterEpoch(held.lease.epoch, held.lease.source)

    def start(self) -> None:
        """Say with which epoch the mount writes, and begin to renew.

        Raises OSError if the epoch cannot be written down.
        """
        writer_epoch.write(self._directory, self._epoch)
        self._thread.start()

    def guard(self, fence: Callable[[str], object]) -> None:
        """Call it with the reason once the lease is lost: nobody may write after that."""
        with self._lock:
            self._fence = fence
            lost = self.lost
        if lost:
            fence(lost)

    def bound(self, deadline: Deadline) -> None:
        """Set this deadline to now once the lease is lost: a drain can prove nothing any more."""
        self._deadline = deadline
        if self.lost:
            deadline.set(0.0)

    def stop(self) -> None:
        """Renew it no more; whoever wants it waits until it runs out."""
        self._ended.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(END_SECONDS)

    def release(self) -> None:
        """Mark the lease as free: the next one need not wait. A store that is away is no error."""
        if self._ended.is_set():
            return
        self.stop()
        if self.lost:
            return
        # A store that has just not answered is not asked once more: nobody waits for it here.
        why = "the store does not answer" if self._thread.is_alive() else self._unrenewed
        if not why:
            try:
                lease_object.release(self._opened(), self.held)
            except MountkitError as error:
                why = error.message
        if why:
            self._tell(
                Problem(
                    f"The lease of {self.held.lease.source} is not released; another machine can "
                    f"take it when it has run out, in 30 s: {why}"
                )
            )

    def _run(self) -> None:
        pause = self._first
        while not self._ended.wait(pause):
            pause = self._turn()
            if self.lost:
                return

    def _turn(self) -> float:
        """Renew it once; seconds until the next time."""
        try:
            outcome = lease_object.renew(self._opened(), self.held)
        except MountkitError as error:
            return self._failed(error.message)
        except Exception as error:
            logger.exception("mountkit: the lease of %s was not renewed", self.held.lease.source)
            return self._failed(f"{type(error).__name__}: {error}")
        self._unrenewed = ""
        if isinstance(outcome, Lost):
            self._lose(outcome.reason)
            return self._every
        if outcome.enforced is False and not self._told_advisory:
            self._told_advisory = True
            self._tell(
                Problem(
                    f"The store does not hold writes to a condition, so the lease of "
                    f"{outcome.lease.source} is advisory: a second writer that starts in the same "
                    "seconds is seen some seconds late"
                )
            )
        self.held = outcome
        return self._every

    def _opened(self) -> Store:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _failed(self, why: str) -> float:
        if not self._unrenewed:
            self._tell(
                Problem(
                    f"The lease of {self.held.lease.source} is not renewed, and tried again: {why}"
                )
            )
        self._unrenewed = why
        return self._retry

    def _lose(self, reason: str) -> None:
        """First of all the daemon ends: what it uploads, nobody can hold back."""
        with self._lock:
            self.lost = reason
            fence = self._fence
        if fence is not None:
            fence(reason)
        if self._deadline is not None:
            self._deadline.set(0.0)
        try:
            writer_epoch.write(self._directory, replace(self._epoch, lost=reason))
        except OSError as error:
            # Whoever proves then finds another epoch in the store.
            logger.warning("mountkit: that the lease is lost cannot be noted: %s", error)
        self._tell(LeaseLost(reason))
