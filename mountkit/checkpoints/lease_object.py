"""The lease in the store: seen, taken, renewed and released. See ``lease``.

Written under a condition: where the store enforces it, of two writers one is refused. Where the
store ignores it, the lease is read before each renewal: a second writer is seen, some seconds late.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mountkit.checkpoints.lease import (
    LIMIT_BYTES,
    TTL_SECONDS,
    Lease,
    NewerFormatError,
    Standing,
    began_at,
    judge,
    succeed,
)
from mountkit.errors import (
    ConfigurationError,
    MountUnavailableError,
    PermissionDeniedError,
    VerificationError,
)
from mountkit.linux import machine
from mountkit.names import LEASE_NAME
from mountkit.store import provider
from mountkit.store.base import UnsupportedConditionError, Version

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mountkit.checkpoints.lease import Holder
    from mountkit.errors import MountkitError
    from mountkit.store.base import Store

WATCH_SECONDS = 2.0
# So often a lease is looked at anew that somebody else has changed between our look and our write.
TRIES = 5
#: The tag of no object.
NO_TAG = "mountkit-no-such-tag"


@dataclass(frozen=True, slots=True)
class Seen:
    """The object as it was read. ``problem`` says why it is no lease, where it is none."""

    version: Version
    lease: Lease | None = None
    problem: VerificationError | None = None

    @property
    def age(self) -> float | None:
        """Seconds since it was written, by the store's clock; None where that does not tell."""
        modified, date = self.version.modified, self.version.date
        return None if modified is None or date is None else (date - modified).total_seconds()


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that we have. ``enforced``: whether the store holds to conditions, if we know."""

    lease: Lease
    tag: str
    enforced: bool | None = None


@dataclass(frozen=True, slots=True)
class Unheld:
    """There is no lease, and there will be none: the store does not let us write it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Awaited:
    """The lease is somebody's who may have died; so many seconds from now that is known."""

    lease: Lease
    seconds: float


@dataclass(frozen=True, slots=True)
class Lost:
    """Somebody else has the lease."""

    reason: str


def look(store: Store) -> Seen:
    """What the run's prefix has for a lease.

    Raises MountkitError if the store cannot be asked.
    """
    try:
        version = store.read(LEASE_NAME, limit=LIMIT_BYTES)
    except VerificationError:
        # Too big. Whoever has to replace it asks for its tag.
        return Seen(
            Version(b"", "", None, None),
            problem=VerificationError(f"it is bigger than {LIMIT_BYTES} bytes"),
        )
    if version.data is None:
        return Seen(version)
    try:
        return Seen(version, Lease.from_bytes(version.data))
    except VerificationError as error:
        return Seen(version, problem=error)


def take(
    store: Store,
    me: Holder,
    seen: Seen,
    floor: Callable[[], int],
    *,
    wait: bool,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Held | Unheld | Awaited:
    """Take the lease of the run that ``store`` is the place of.

    Parameters
    ----------
    me:
        Who will hold it.
    seen:
        The lease as it was a moment ago.
    floor:
        The highest epoch in any manifest; asked for only where there is no lease.
    wait:
        Whether to wait for the end of a lease that may be a dead holder's, at most its 30 s.

    Raises
    ------
    MountUnavailableError
        If its holder lives.
    ConfigurationError
        If what is there is no lease.
    """
    began, tag, since = clock(), seen.version.tag, clock()
    first = seen.lease
    tries = 0
    while True:
        now = clock()
        if seen.version.tag != tag:
            tag, since = seen.version.tag, now
        refuse_unreadable(store, seen)
        lease = seen.lease
        silent = now - since
        standing = judge(lease, me, age=seen.age, silent=silent, runs=_runs(lease))
        if first is None or lease is None or not _same(lease, first):
            first = lease
        renewed = lease is not None and first is not None and lease.renewal > first.renewal
        if standing is Standing.FREE:
            tries += 1
            taken = _take(store, me, seen, floor)
            if taken is not None:
                return taken
            if tries == TRIES:
                raise MountUnavailableError(
                    f"{store.source.url} is being taken by another writer at this moment.",
                    hint=f"Try again; see who has it: mountkit doctor {store.source.url}",
                )
        elif standing is Standing.HELD or renewed or now - began > 2 * TTL_SECONDS:
            raise in_use(store, lease)
        elif lease is not None:
            left = TTL_SECONDS - max(silent, min(seen.age or 0.0, TTL_SECONDS))
            if not wait:
                return Awaited(lease, left)
            pause(min(WATCH_SECONDS, left))
        seen = look(store)


def in_use(store: Store, lease: Lease | None) -> MountUnavailableError:
    """The refusal of a second writer: who has the run, and since when."""
    url = store.source.url
    if lease is None:
        return MountUnavailableError(f"{url} is in use.", hint=f"mountkit doctor {url}")
    since = f"{lease.since:%Y-%m-%d %H:%M:%S} UTC"
    return MountUnavailableError(
        f"{url} is in use: {lease.holder} writes there since {since} (epoch {lease.epoch}).",
        hint=f"End that run first, on {lease.holder.host}: mountkit status. Or give this run a "
        f"place of its own, such as {url}-2",
    )


def standing(seen: Seen, silent: float = 0.0) -> Standing:
    """What the lease is to somebody who has never had it; ``silent`` as ``judge`` has it."""
    return judge(seen.lease, None, age=seen.age, silent=silent, runs=_runs(seen.lease))


def refuse_live(
    store: Store,
    *,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Raise MountUnavailableError if a run writes there now, or one was killed a moment ago.

    Where the store does not tell how old the lease is, it is watched for its 30 s.
    """
    first = seen = look(store)
    # How long that took says nothing of its holder.
    began = clock()
    while True:
        refuse_unreadable(store, seen)
        found = standing(seen, clock() - began)
        if found is Standing.FREE:
            return
        if found is Standing.HELD or seen.age is not None or seen.lease != first.lease:
            raise in_use(store, seen.lease)
        pause(WATCH_SECONDS)
        seen = look(store)


def refuse_unreadable(store: Store, seen: Seen) -> None:
    """Raise MountUnavailableError or ConfigurationError if what is there is no lease we know."""
    if seen.problem is None:
        return
    url = store.source.child(LEASE_NAME).url
    if isinstance(seen.problem, NewerFormatError):
        raise MountUnavailableError(
            f"{url} cannot be read: {seen.problem.message}. Whether that one still writes there, "
            "this one cannot tell.",
            hint="Use that mountkit, or a newer one: pip install -U mountkit",
        )
    raise ConfigurationError(
        f"{url} is not the lease of a run: {seen.problem.message}.",
        hint=f"See what it is. If no run writes to {store.source.url}, remove it: "
        f"{provider(store.source.scheme).delete_command(url)}",
    )


def _runs(lease: Lease | None) -> bool | None:
    """Whether its holder runs; None where that cannot be told from here."""
    if lease is None or not lease.holder.place or lease.holder.place != machine.place():
        return None
    return machine.runs(lease.holder.pid, lease.holder.started)


def _take(store: Store, me: Holder, seen: Seen, floor: Callable[[], int]) -> Held | Unheld | None:
    """Write our own in the place of what was seen; None if somebody else was quicker."""
    lease, version = seen.lease, seen.version
    ended = lease is None or lease.released or lease.holder == me or _runs(lease) is False
    mine = succeed(
        lease,
        me,
        store.source.url,
        now=version.date,
        renewed=version.modified,
        expired=not ended,
        floor=floor() if lease is None else 0,
    )
    data = mine.to_bytes()
    try:
        written = store.put_if(LEASE_NAME, data, tag=version.tag or None)
    except UnsupportedConditionError:
        return _without_condition(store, mine, now=version.date, expired=not ended)
    except PermissionDeniedError as error:
        return Unheld(error.message)
    if written is not None:
        return Held(mine, written.tag)
    # Ours, perhaps: the answer to the first of two tries was lost.
    again = look(store)
    return Held(mine, again.version.tag) if again.version.data == data else None


def _without_condition(
    store: Store, lease: Lease, *, now: datetime | None, expired: bool
) -> Held | Unheld | None:
    """Write it, and see that nobody else did so in the same moment.

    Where the store did not tell what time it is, what it dates this write with does: that is then
    when the holder began.
    """
    data = lease.to_bytes()
    try:
        store.put(LEASE_NAME, data)
    except PermissionDeniedError as error:
        return Unheld(error.message)
    seen = look(store)
    if seen.version.data != data:
        return None
    if now is None and seen.version.modified is not None:
        lease = lease.begun(began_at(seen.version.modified, lease.epochs[:-1], expired=expired))
        store.put(LEASE_NAME, lease.to_bytes())
        seen = look(store)
        if seen.version.data != lease.to_bytes():
            return None
    return Held(lease, seen.version.tag, enforced=False)


def renew(store: Store, held: Held) -> Held | Lost:
    """Renew the lease, or find that it is lost.

    Raises MountkitError if the store cannot be asked: then nothing is known.
    """
    mine = held.lease.renewed()
    if held.enforced is None:
        return _first_renewal(store, held, mine)
    if held.enforced:
        written = store.put_if(LEASE_NAME, mine.to_bytes(), tag=held.tag)
        return (
            _contested(store, held)
            if written is None
            else replace(held, lease=mine, tag=written.tag)
        )
    seen = look(store)
    if (lost := _other(store, held, seen)) is not None:
        return lost
    store.put(LEASE_NAME, mine.to_bytes())
    return replace(held, lease=mine)


def _first_renewal(store: Store, held: Held, mine: Lease) -> Held | Lost:
    """Find out whether the store enforces conditions: with one that cannot hold."""
    seen = look(store)
    if (lost := _other(store, held, seen)) is not None:
        return lost
    try:
        written = store.put_if(LEASE_NAME, mine.to_bytes(), tag=NO_TAG)
    except UnsupportedConditionError:
        store.put(LEASE_NAME, mine.to_bytes())
        return replace(held, lease=mine, enforced=False)
    if written is not None:
        return Held(mine, written.tag, enforced=False)
    return renew(store, replace(held, tag=seen.version.tag or held.tag, enforced=True))


def _other(store: Store, held: Held, seen: Seen) -> Lost | None:
    """Whether what is there is somebody else's; what is no lease, or nothing, is nobody's."""
    if isinstance(seen.problem, NewerFormatError):
        return Lost(f"a newer mountkit has taken {store.source.url}")
    lease = seen.lease
    if lease is None or _same(lease, held.lease):
        return None
    return Lost(
        f"{lease.holder} writes to {store.source.url} since {lease.since:%Y-%m-%d %H:%M:%S} UTC "
        f"(epoch {lease.epoch}, and this mount has {held.lease.epoch})"
    )


def _same(one: Lease, other: Lease) -> bool:
    """Whether both are of one holder's time."""
    return (one.epoch, one.holder) == (other.epoch, other.holder)


def _contested(store: Store, held: Held) -> Held | Lost:
    """It is not as we have left it: somebody's, removed, damaged, or an answer of ours was lost."""
    seen = look(store)
    if (lost := _other(store, held, seen)) is not None:
        return lost
    if seen.lease is not None:
        return replace(held, lease=seen.lease, tag=seen.version.tag)
    tag = seen.version.tag
    if seen.problem is not None and not tag:
        there = store.stat(LEASE_NAME)
        tag = there.tag if there is not None else ""
    mine = held.lease.renewed()
    written = store.put_if(LEASE_NAME, mine.to_bytes(), tag=tag or None)
    # Changed once more: the next turn sees what became of it.
    return held if written is None else replace(held, lease=mine, tag=written.tag)


def confirm(store: Store, epoch: int) -> MountkitError | None:
    """Why a writer of that epoch may not write any more; None if it may.

    Raises MountkitError if the store cannot be asked.
    """
    seen = look(store)
    if seen.lease is None or seen.lease.epoch <= epoch:
        return None
    return in_use(store, seen.lease)


def release(store: Store, held: Held) -> bool:
    """Mark the lease as free; whether it still was ours.

    Raises MountkitError if the store cannot be asked.
    """
    if held.enforced is not True and _other(store, held, look(store)) is not None:
        return False
    free = replace(held.lease.renewed(), released=True).to_bytes()
    if held.enforced is False:
        store.put(LEASE_NAME, free)
        return True
    return store.put_if(LEASE_NAME, free, tag=held.tag) is not None
