"""See that the store can be used, and what is in it, before anything is mounted."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.checkpoints import lease_object
from mountkit.checkpoints.lease_object import Awaited, Held, Unheld
from mountkit.errors import MountUnavailableError, PermissionDeniedError
from mountkit.names import MANIFEST_NAME, top_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from mountkit.backends.base import WrittenFile
    from mountkit.checkpoints.catalog import Candidate
    from mountkit.checkpoints.lease import Holder
    from mountkit.mounts.mount import Mount
    from mountkit.store.base import Store

# The look itself ends after some seconds; listing a large bucket takes longer.
# The store dates in seconds, and our clocks are compared by one answer.
CLOCKS_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was found.

    ``unproven`` has the checkpoints that are there without a manifest, those in other directories
    only if an earlier run left files of them on this machine; ``store_time`` is when the store
    dated what was written then, by its own clock, in seconds since the epoch. Of the files that an
    earlier run left on this machine, ``outdated`` wait for their upload while the store has newer
    ones, and ``missing`` were uploaded, and could not be proven, and are not in the store.
    ``lease`` is the run's lease, as it was taken or has to be waited for; None if none was asked
    for.
    """

    unproven: tuple[str, ...]
    store_time: float
    outdated: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    lease: Held | Unheld | Awaited | None = None


def take_inventory(mount: Mount, holder: Holder | None = None, *, wait: bool = False) -> Inventory:
    """See that the store can be used, take the run's lease, and see what is in the store.

    Parameters
    ----------
    holder:
        Who takes the lease; None to take none.
    wait:
        Whether to wait for a lease whose holder may be dead. Otherwise nothing else is looked at
        then.

    Raises
    ------
    MountkitError
        What ``Store.check`` and ``lease_object.take`` raise.
    """
    from mountkit.checkpoints import catalog

    store = mount.store()
    dated = store.check().dated
    now = time.time()
    store_time = now if dated is None else dated.timestamp()
    lease = None
    if holder is None:
        there = catalog.scan(store)
    else:
        there, lease = _leased(store, holder, wait=wait)
        if isinstance(lease, Awaited):
            return Inventory((), store_time, lease=lease)
    return replace(_compared(mount, store, there, store_time, store_time - now), lease=lease)


def _leased(
    store: Store, holder: Holder, *, wait: bool
) -> tuple[tuple[Candidate, ...], Held | Unheld | Awaited]:
    """The checkpoints, none of which another writer adds to, and the lease."""
    from mountkit.checkpoints import catalog

    seen = catalog.survey(store)
    if isinstance(seen.failed, PermissionDeniedError):
        return seen.candidates, Unheld(seen.failed.message)
    if seen.failed is not None or seen.lease is None:
        raise seen.failed or MountUnavailableError("The lease cannot be read.")
    lease = lease_object.take(store, holder, seen.lease, lambda: seen.epoch, wait=wait)
    # While it was waited for, its holder may have gone on.
    return (catalog.scan(store) if wait else seen.candidates), lease


def _compared(
    mount: Mount,
    store: Store,
    there: Sequence[Candidate],
    store_time: float,
    ahead: float,
) -> Inventory:
    unproven = tuple(found.name for found in there if not found.proven)
    if not backends.load(mount.spec.backend).write_back:
        return Inventory(unproven, store_time)
    left = mount.directory.unfinished()
    named = frozenset(left.unproven if left is not None else ())
    files = _left(mount)
    unproven += _further_down(mount, store, files, {found.name for found in there})
    sent = [file.path for file in files if not file.dirty and file.path in named]
    return Inventory(
        unproven,
        store_time,
        _outdated(mount, store, files, ahead),
        tuple(path for path, found in store.stat_many(sent).items() if found is None),
    )


def _left(mount: Mount) -> Sequence[WrittenFile]:
    """What an earlier run has on this machine; nothing if its cache was emptied since.

    Not while a daemon of it runs: what that one has written would be lost in silence.
    """
    try:
        return mount.control().files()
    except MountUnavailableError:
        record = mount.record()
        if record is not None and record.daemon is not None and record.daemon.alive():
            raise
        # What cannot be read for another reason is met again, once the mount is made.
        return ()


def _further_down(
    mount: Mount, store: Store, files: Iterable[WrittenFile], known: Collection[str]
) -> tuple[str, ...]:
    """Checkpoints without a manifest, of which an earlier run left files here, in any directory.

    Only those: the directories of a bucket may be many. What still waits is brought in any case.
    """
    from mountkit.checkpoints.verification import inside

    tops = {top_of(file.path) for file in files if not file.dirty} - {"", *known}
    manifests = {top: inside(top, MANIFEST_NAME) for top in sorted(tops)}
    found = store.stat_many(manifests.values())
    # One that was proven, and is not in the store at all, somebody has removed there since. So it
    # may be with what a run left that came to its end: that has named what it could not prove.
    left = mount.directory.unfinished()
    killed = left is not None and left.cut_off
    proven = mount.directory.proof_stats.read().proven_at
    return tuple(
        top
        for top, path in manifests.items()
        if found[path] is None
        and ((killed and top not in proven) or next(iter(store.list(top)), None) is not None)
    )


def _outdated(
    mount: Mount, store: Store, files: Sequence[WrittenFile], ahead: float
) -> tuple[str, ...]:
    """Those of which the store has another version that is newer; its clock is ``ahead`` of ours.

    Another run has written them meanwhile, perhaps on another machine, and proven them. With one
    file of a checkpoint go all that are here.
    """
    from mountkit.checkpoints.attestation import attest_object

    waiting = [file for file in files if file.dirty]
    there = store.stat_many(file.path for file in waiting)
    found = []
    for file in waiting:
        seen = there[file.path]
        if seen is None or seen.modified is None:
            continue
        if seen.modified.timestamp() - ahead <= file.modified + CLOCKS_SECONDS:
            continue
        reference = mount.control().reference(file.path)
        # One that is not whole is set aside in any case.
        if reference is None:
            continue
        digest, local = reference.digest, reference.local
        if not attest_object(store, file.path, digest, local, attestation=seen).ok:
            found.append(file.path)
    tops = {top_of(path) for path in found} - {""}
    return tuple(file.path for file in files if file.path in found or top_of(file.path) in tops)
