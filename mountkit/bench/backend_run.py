"""One backend's trial: a mount of its own, saves that are proven, and a daemon that is killed."""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mountkit.bench import timed_save
from mountkit.bench.report import Round
from mountkit.bench.timed_save import SaveError
from mountkit.config import directories, timeouts
from mountkit.doctor import file_operations
from mountkit.doctor.quick_check import FORBIDDEN
from mountkit.errors import MountkitError, MountUnavailableError, PermissionDeniedError
from mountkit.events import silent
from mountkit.lifecycle import leases
from mountkit.lifecycle.session import Session
from mountkit.proof.committer import Prover
from mountkit.state import record
from mountkit.state.mount_directory import StateDirectory
from mountkit.supervision.restart_policy import FLAPPING_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mountkit.bench.timed_save import Saved
    from mountkit.config.settings import Settings
    from mountkit.spec import MountSpec, Source

# A store that takes less than this is no place for checkpoints; a save is not waited for longer.
SLOWEST_BYTES_PER_SECOND = 1e6
# What the first save pays once, such as loading a store's client, is no part of what a save takes.
WARM_UP_BYTES = 1_000_000
REMOVE_SECONDS = 30.0
POLL_SECONDS = 0.02


def longest(settings: Settings, size: int) -> float:
    """Seconds after which a save of ``size`` bytes, or its proof, is given up."""
    return settings.stall_timeout + size / SLOWEST_BYTES_PER_SECOND


@dataclass(frozen=True, slots=True)
class Contender:
    """A backend that can be measured.

    ``place`` is what the user named; ``spec`` mounts a directory in it that nobody else writes to,
    at a target of its own. ``size`` is that of the weight file of one save, in bytes.
    """

    version: str
    place: Source
    spec: MountSpec
    settings: Settings
    size: int

    @property
    def backend(self) -> str:
        """Its name."""
        return self.spec.backend

    @property
    def limit(self) -> float:
        """How long a save, or its proof, may take, in seconds."""
        return longest(self.settings, self.size)

    @property
    def hint(self) -> str:
        """What to do where it fails."""
        return f"See what is wrong: mountkit doctor {self.place.url} --backend {self.backend}"

    @property
    def log(self) -> Path:
        """What the daemon said."""
        return StateDirectory(directories.state_root(self.settings) / self.spec.id).log


class BackendRun:
    """A backend that is mounted, and being measured. Making one mounts.

    ``candidate``: What to measure. ``keep``: Given the trial as soon as it is mounted, to be ended.

    Raises MountkitError if it cannot be mounted.
    """

    def __init__(
        self, candidate: Contender, keep: Callable[[BackendRun], object] = lambda _: None
    ) -> None:
        self.candidate = candidate
        #: Whether a save may have been cut short.
        self.broken_off = False
        self._recovered_at = 0.0
        self._session: Session

        def own(session: Session) -> None:
            self._session, self._ended = session, False
            keep(self)

        Session.open(candidate.spec, candidate.settings, keep=own, holder=leases.nobody)
        limits = timeouts.limits(candidate.settings)
        limits = replace(limits, drain=min(limits.drain, candidate.limit))
        self._prover = Prover(self._session.mount, "", limits, silent)

    def warm_up(self) -> None:
        """Save once for nothing.

        Raises MountkitError if the save fails, or cannot be proven.
        """
        saved = self._save(0, min(self.candidate.size, WARM_UP_BYTES))
        self._prove(0, saved)
        self._remove(0)

    def measure(self, number: int, doing: Callable[[str], None]) -> Round:
        """Save, prove, kill the daemon, and remove what was saved.

        ``number``: Of the round, from 1. ``doing``: Told what is under way.

        Raises MountkitError if any of it fails.
        """
        doing("saving")
        saved = self._save(number, self.candidate.size)
        doing("uploading and proving")
        proven = self._prove(number, saved)
        doing("killing the daemon")
        recovery = self._recover()
        self._remove(number)
        return Round(saved.seconds, proven, recovery)

    def end(self) -> None:
        """Unmount. May be called again.

        Raises MountUnavailableError if it stays mounted.
        """
        if not self._ended:
            self._session.close()
            self._ended = True

    def _save(self, step: int, size: int) -> Saved:
        name = _name(step)
        self._prover.begin(name)
        self.broken_off = True
        directory = f"{self.candidate.spec.target}/{name}"
        try:
            return timed_save.save(directory, size, fsync=True, limit=self.candidate.limit)
        except SaveError as error:
            raise self._failed(error) from error

    def _prove(self, step: int, saved: Saved) -> float:
        """Seconds from the start of the save until its manifest is in the bucket."""
        try:
            self._prover.prove(_name(step), step, timed_save.FILES, began=saved.began)
        except MountkitError as error:
            # Its own is about a mount that stays, and this one is about to go.
            error.hint = self.candidate.hint
            raise
        proven = time.monotonic() - saved.began
        self.broken_off = False
        return proven

    def _failed(self, error: SaveError) -> MountkitError:
        """In the words of the daemon's log, where it says more than an error number."""
        backend = self.candidate.backend
        path = str(error.filename).removeprefix(f"{self.candidate.spec.target}/")
        reason = ""
        with contextlib.suppress(MountkitError, OSError):
            reason = self._session.mount.control().explain(path)
        reason = (reason or error.strerror or str(error)).rstrip(".")
        kind = PermissionDeniedError if error.errno in FORBIDDEN else MountUnavailableError
        call = f"{error.call} of " if error.call else ""
        return kind(
            f"A save with {backend} failed ({call}{path}): {reason}.", hint=self.candidate.hint
        )

    def _recover(self) -> float:
        """Kill the daemon; seconds until the mount serves again."""
        # One that dies soon after it was mounted again is not mounted at once.
        time.sleep(max(0.0, self._recovered_at + FLAPPING_SECONDS - time.monotonic()))
        mount, backend = self._session.mount, self.candidate.backend
        limit = self.candidate.settings.repair_timeout
        before = mount.record()
        began = time.monotonic()
        if before is None or before.daemon is None or not before.daemon.send(signal.SIGKILL):
            raise MountUnavailableError(
                f"{backend} died before it was killed.", hint=self.candidate.hint
            )
        while True:
            now = mount.record()
            if now is None or now.state == record.FAILED or time.monotonic() - began > limit:
                raise MountUnavailableError(
                    f"The mount with {backend} did not come back within {limit:g} s of a SIGKILL: "
                    f"{now.reason if now is not None else 'it was unmounted'}.",
                    hint=f"Read its log: less {mount.directory.log}",
                )
            if now.remounts > before.remounts and now.state == record.SERVING and mount.serving():
                break
            time.sleep(POLL_SECONDS)
        self._recovered_at = time.monotonic()
        return self._recovered_at - began

    def _remove(self, step: int) -> None:
        """Make room for the next save. What stays is removed from the bucket in the end."""
        file_operations.remove(f"{self.candidate.spec.target}/{_name(step)}", REMOVE_SECONDS)


def _name(step: int) -> str:
    return f"checkpoint-{step}"
