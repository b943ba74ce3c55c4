"""What mountkit tells while it works: frozen values, for a progress bar, a log or a test."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

logger = logging.getLogger("mountkit")


@dataclass(frozen=True, slots=True)
class ProofStarted:
    """A checkpoint was saved into the mount; its proof begins."""

    step: int
    files: int


@dataclass(frozen=True, slots=True)
class FileProven:
    """The store attested one file. ``size`` in bytes, ``seconds`` since the save began."""

    step: int
    path: str
    size: int
    attested_by: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CheckpointProven:
    """The manifest is in the store. ``size`` in bytes, ``seconds`` since the save began."""

    step: int
    files: int
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CheckpointRemoved:
    """Retention removed an older checkpoint."""

    step: int


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """The proof waits for uploads: ``files`` and ``size`` (bytes) are still to go."""

    files: int
    size: int
    reason: str = "uploading"


@dataclass(frozen=True, slots=True)
class SaveBlocked:
    """The training waits before it saves, as ``reason`` says."""

    reason: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something failed that may still come right."""

    reason: str


@dataclass(frozen=True, slots=True)
class MountLost:
    """The mount is lost; the supervisor repairs it. ``cause`` is died, hung or unmounted."""

    reason: str
    cause: str = "died"


@dataclass(frozen=True, slots=True)
class Remounted:
    """The mount serves again, ``seconds`` after the loss was noticed. ``cause`` as it was lost."""

    reason: str
    seconds: float
    cause: str = "died"


@dataclass(frozen=True, slots=True)
class MountFailed:
    """The mount could not be repaired."""

    reason: str


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Another writer has the run; the daemon of this one was ended. ``reason`` says who."""

    reason: str


@dataclass(frozen=True, slots=True)
class EndpointStarted:
    """Health and metrics are served below ``url``."""

    url: str


Event = (
    ProofStarted
    | FileProven
    | CheckpointProven
    | CheckpointRemoved
    | UploadProgress
    | SaveBlocked
    | Problem
    | MountLost
    | Remounted
    | MountFailed
    | EndpointStarted
    | LeaseLost
)
Observer = Callable[[Event], None]

# The names of version 0.1, for one version more.
SaveStarted = ProofStarted
Waiting = UploadProgress | SaveBlocked
Trouble = Problem
MountGivenUp = MountFailed
Listening = EndpointStarted


def silent(event: Event) -> None:
    """An observer that looks away."""


def guarded(observer: Observer) -> Observer:
    """The same observer, for work that must not end because nobody can be told of it."""

    def tell(event: Event) -> None:
        try:
            observer(event)
        except Exception:
            logger.exception("mountkit: %s could not be told", type(event).__name__)

    return tell


def to_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object, its kind under ``event``."""
    return {"event": type(event).__name__, **asdict(event)}
