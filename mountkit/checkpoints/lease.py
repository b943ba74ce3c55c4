"""The lease: which writer a run has, and since when. Format 1. No I/O.

One object in the run's prefix, ``mountkit-lease.json``, names the one mount that may write there.
Its *epoch* grows with each new holder and never shrinks; the object is never deleted, and a release
only marks it. Every manifest bears the epoch of its writer.

Two moments decide, both by the store's clock:

- A lease that was not renewed for ``TTL_SECONDS`` may be taken over.
- A manifest counts if no later epoch had begun when it was written. So all that a run proved before
  it ended counts, and nothing that a writer proves after somebody has taken its place.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from mountkit.errors import VerificationError
from mountkit.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT = 1
TTL_SECONDS = 30.0
RENEW_SECONDS = 10.0
#: A lease that is bigger is none.
LIMIT_BYTES = 64 * 1024
#: So many epochs are remembered one by one. Before them one boundary stands for all.
REMEMBERED = 200
LARGEST = 2**53
LAST_YEAR = 9000
# Stores date to the second: what an epoch that had ended wrote in its last one still counts.
SECOND = timedelta(seconds=1)


class NewerFormatError(VerificationError):
    """A lease that a newer mountkit wrote."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes to a run: one process on one machine, with one mount.

    ``place`` tells where the ``pid`` means this process, "" where nobody can tell; ``started`` is
    in clock ticks since boot. ``mount`` is the mount's id.
    """

    host: str
    pid: int
    mount: str
    started: int = 0
    place: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {printable(self.host)}"


@dataclass(frozen=True, slots=True)
class Epoch:
    """``since``: what an older epoch wrote from then on does not count. By the store's clock."""

    number: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """What the object says. The last of the ``epochs`` is that of the ``holder``.

    ``source`` is the run's URL: a copy of the object elsewhere says nothing of what lies there.
    ``renewal`` makes each renewal another object, with another tag.
    """

    source: str
    holder: Holder
    epochs: tuple[Epoch, ...]
    renewal: int = 0
    released: bool = False

    @property
    def epoch(self) -> int:
        """That of the holder."""
        return self.epochs[-1].number

    @property
    def since(self) -> datetime:
        """When the holder began."""
        return self.epochs[-1].since

    def renewed(self) -> Lease:
        """The same lease, renewed."""
        return replace(self, renewal=self.renewal + 1)

    def begun(self, since: datetime) -> Lease:
        """The same lease, of a holder that began then."""
        *earlier, last = self.epochs
        return replace(self, epochs=(*earlier, replace(last, since=since)))

    def to_bytes(self) -> bytes:
        """UTF-8 JSON."""
        document = {
            "format": FORMAT,
            "epoch": self.epoch,
            "holder": asdict(self.holder),
            "since": self.since.isoformat(),
            "released": self.released,
            "renewal": self.renewal,
            "seconds": TTL_SECONDS,
            "source": self.source,
            "epochs": [[epoch.number, epoch.since.isoformat()] for epoch in self.epochs],
        }
        return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Lease:
        """Read a lease; keys it does not know are passed over.

        Raises NewerFormatError if a newer mountkit wrote it; VerificationError, which says why, if
        it is none.
        """
        if len(data) > LIMIT_BYTES:
            raise VerificationError(f"it is bigger than {LIMIT_BYTES} bytes")
        try:
            document = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise VerificationError(f"it is not JSON ({type(error).__name__})") from error
        if not isinstance(document, dict):
            raise VerificationError("it is not a JSON object")
        number = document.get("format")
        if isinstance(number, int) and not isinstance(number, bool) and number > FORMAT:
            raise NewerFormatError(f"it has format {number}, which a newer mountkit wrote")
        if number != FORMAT or isinstance(number, bool):
            raise VerificationError("it has no format that mountkit knows")
        epochs = tuple(_epoch(item) for item in _value(document, "epochs", list))
        numbers = [epoch.number for epoch in epochs]
        if not numbers or numbers != sorted({*numbers}) or numbers[-1] != document.get("epoch"):
            raise VerificationError("its epochs do not grow up to its own")
        return cls(
            _value(document, "source", str),
            _holder(_value(document, "holder", dict)),
            epochs,
            _whole(document.get("renewal", 0), "renewal"),
            _value(document, "released", bool),
        )


class Standing(Enum):
    """What a lease is to somebody who would like to have it."""

    FREE = "nobody has it"
    HELD = "its holder lives"
    SILENT = "its holder lives, or died a moment ago"


def judge(
    lease: Lease | None, me: Holder | None, *, age: float | None, silent: float, runs: bool | None
) -> Standing:
    """Whether ``me`` may take the lease.

    Parameters
    ----------
    lease:
        What the store has, None for nothing.
    me:
        Who would like to have it; None for somebody who has never had it.
    age:
        Seconds since its last renewal, by the store's clock. None where the store does not tell,
        negative where its clock went back: then it says nothing.
    silent:
        For how many seconds it was seen not to be renewed, by our own clock.
    runs:
        Whether the holder's process runs; None where that cannot be told from here.
    """
    if lease is None or lease.released or lease.holder == me or runs is False:
        return Standing.FREE
    if max(silent, 0.0 if age is None else age) >= TTL_SECONDS:
        return Standing.FREE
    return Standing.HELD if runs else Standing.SILENT


def succeed(
    lease: Lease | None,
    me: Holder,
    source: str,
    *,
    now: datetime | None,
    renewed: datetime | None,
    expired: bool,
    floor: int = 0,
) -> Lease:
    """The lease of a new holder, in the place of ``lease``.

    Parameters
    ----------
    now, renewed:
        When the store told of ``lease``, and when that was renewed last, by the store's clock.
    expired:
        Whether its holder may still write. One that released it, or whose process is gone, has
        written its last: what it wrote in this very second counts.
    floor:
        The highest epoch in any manifest: the new one is higher, also where the lease was deleted.
    """
    known = lease.epochs if lease is not None else ()
    # Not the last renewal alone: what its holder has proven after that counts.
    since = max(moment for moment in (now or datetime.now(UTC), renewed) if moment is not None)
    since = began_at(since, known, expired=expired)
    number = max([floor, *(epoch.number for epoch in known[-1:])]) + 1
    return Lease(source, me, (*known, Epoch(number, since))[-REMEMBERED:])


def began_at(at: datetime, earlier: Sequence[Epoch], *, expired: bool) -> datetime:
    """Since when an epoch counts that was taken ``at`` that time; the rest as for ``succeed``."""
    if not expired:
        at += SECOND
    # Where the store's clock went back, what was proven before still counts.
    return max([at, *(epoch.since for epoch in earlier[-1:])])


def superseded(lease: Lease | None, epoch: int | None, written: datetime | None) -> Epoch | None:
    """The later epoch that had begun when a manifest of ``epoch`` was written; None if it counts.

    A manifest without an epoch is of a mountkit that knew none, or of a writer without a lease, and
    counts; so does one of which the store does not tell when it was ``written``.
    """
    if lease is None or epoch is None or written is None:
        return None
    return next(
        (each for each in lease.epochs if each.number > epoch and each.since <= written), None
    )


def _value(document: dict[str, Any], name: str, kind: type) -> Any:
    value = document.get(name)
    if not isinstance(value, kind):
        raise VerificationError(f"it has no valid {name!r}")
    return value


def _whole(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < LARGEST:
        raise VerificationError(f"it has no valid {name!r}")
    return value


def _holder(document: dict[str, Any]) -> Holder:
    return Holder(
        _value(document, "host", str),
        _whole(document.get("pid"), "pid"),
        _value(document, "mount", str),
        _whole(document.get("started", 0), "started"),
        _value({"place": "", **document}, "place", str),
    )


def _epoch(item: object) -> Epoch:
    if not isinstance(item, list) or len(item) != 2 or not isinstance(item[1], str):
        raise VerificationError("it has no valid 'epochs'")
    try:
        since = datetime.fromisoformat(item[1])
    except ValueError as error:
        raise VerificationError("one of its epochs has no valid time") from error
    if since.tzinfo is None or since.year > LAST_YEAR:
        raise VerificationError("one of its epochs has no valid time")
    return Epoch(_whole(item[0], "epochs"), since)
