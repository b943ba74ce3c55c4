"""What mountkit tells while it works: frozen values, for a progress bar, a log or a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SaveStarted:
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
class Waiting:
    """Training, or the end of it, waits. ``files`` and ``size`` (bytes) are still to upload."""

    reason: str
    files: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Trouble:
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
class MountGivenUp:
    """The mount could not be repaired."""

    reason: str


@dataclass(frozen=True, slots=True)
class Listening:
    """Health and metrics are served below ``url``."""

    url: str


Event = (
    SaveStarted
    | FileProven
    | CheckpointProven
    | CheckpointRemoved
    | Waiting
    | Trouble
    | MountLost
    | Remounted
    | MountGivenUp
    | Listening
)
Observer = Callable[[Event], None]


def silent(event: Event) -> None:
    """An observer that looks away."""


def to_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object, its kind under ``event``."""
    return {"event": type(event).__name__, **asdict(event)}
