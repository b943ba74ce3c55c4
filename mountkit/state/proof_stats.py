"""What became of the checkpoints of a mount, as ``status`` and the metrics tell it.

The training proves, the supervisor answers: two processes, so the account is kept in the mount's
private directory. It is for people to look at, and tells a later run what was proven once: what
somebody removed from the bucket since, nobody misses. No proof rests on it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
from filelock import FileLock

from mountkit.errors import ConfigurationError
from mountkit.formatting import moment, timestamp
from mountkit.state import json_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger("mountkit")

FILE_NAME = "tally.json"
LOCK_NAME = "tally.lock"
# Nobody's training waits for long so that a number is right.
LOCK_SECONDS = 2.0
REMEMBERED = 1000
LONGEST_MESSAGE = 1000
# A store that fails does so many times a second.
REPEAT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Proven:
    """The newest checkpoint that was proven through a mount."""

    checkpoint: str
    step: int
    at: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """What went wrong last between a mount and its store, and when it did so last."""

    message: str
    at: str


@dataclass(frozen=True, slots=True)
class ProofStats:
    """The account of one mount.

    ``proofs`` and ``failures`` count checkpoints that were proven, and tries that came to nothing.
    ``proven_at`` has the moment, in seconds since the epoch, of the last proof of each checkpoint.
    """

    proven: Proven | None = None
    proofs: int = 0
    failures: int = 0
    complaint: Complaint | None = None
    proven_at: Mapping[str, float] = field(default_factory=dict)


class Ledger:
    """The file that holds the account, for several processes and threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._said: tuple[str, float] = ("", 0.0)

    def read(self) -> ProofStats:
        """The account; an empty one if there is none, or it cannot be read."""
        try:
            content = json_file.load(self._folder / FILE_NAME)
            return (
                ProofStats()
                if content is None
                else msgspec.convert(content, ProofStats, strict=False)
            )
        except (ConfigurationError, ValueError) as error:
            logger.warning("mountkit: %s is begun anew: %s", self._folder / FILE_NAME, error)
            return ProofStats()

    def proved(self, proven: Proven) -> None:
        """A checkpoint was proven."""

        def change(stats: ProofStats) -> ProofStats:
            moments = {**stats.proven_at, proven.checkpoint: moment(proven.at)}
            newest = sorted(moments.items(), key=lambda item: item[1])[-REMEMBERED:]
            return replace(stats, proven=proven, proofs=stats.proofs + 1, proven_at=dict(newest))

        self._change(change)

    def failed(self, message: str) -> None:
        """A checkpoint could not be proven."""
        complaint = _complaint(message)
        self._change(lambda stats: replace(stats, failures=stats.failures + 1, complaint=complaint))

    def record_error(self, message: str) -> None:
        """The store, or the way to it, gave trouble; what is said again and again is noted once."""
        now = time.monotonic()
        said, at = self._said
        if message == said and now - at < REPEAT_SECONDS:
            return
        self._said = (message, now)
        complaint = _complaint(message)
        self._change(lambda stats: replace(stats, complaint=complaint))

    def clear(self) -> None:
        """Forget everything."""
        (self._folder / FILE_NAME).unlink(missing_ok=True)

    def _change(self, change: Callable[[ProofStats], ProofStats]) -> None:
        try:
            # The lock would make the directory of a mount that is gone anew, open to others.
            self._folder.stat()
            with FileLock(self._folder / LOCK_NAME, timeout=LOCK_SECONDS, mode=0o600):
                json_file.replace(self._folder / FILE_NAME, asdict(change(self.read())))
        except OSError as error:
            # A disk that is full must not fail a proof that is in the store.
            logger.warning("mountkit: %s is not up to date: %s", self._folder / FILE_NAME, error)


def _complaint(message: str) -> Complaint:
    return Complaint(message[:LONGEST_MESSAGE], timestamp(time.time()))
