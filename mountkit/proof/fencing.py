"""A writer that has lost its run to another one proves nothing any more, and replaces nothing.

See ``mountkit.checkpoints.lease``: a manifest that slips through all the same does not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.checkpoints import lease_object
from mountkit.checkpoints.manifest import Manifest
from mountkit.errors import (
    MountUnavailableError,
    NotDurableError,
    Unproven,
    VerificationError,
)
from mountkit.state import writer_epoch
from mountkit.store.base import UnsupportedConditionError

if TYPE_CHECKING:
    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount
    from mountkit.state.writer_epoch import WriterEpoch
    from mountkit.store.base import Store

TRIES = 3


def refuse_lost(mount: Mount) -> WriterEpoch | None:
    """The epoch with which this mount writes; None without a lease. Asks nobody.

    Raises NotDurableError if the lease is lost.
    """
    epoch = writer_epoch.read(mount.directory.path)
    if epoch is not None and epoch.lost:
        raise lost(mount, epoch.lost)
    return epoch


def current(mount: Mount, limits: Limits) -> WriterEpoch | None:
    """The same; the store is asked where nobody renews the lease any more."""
    epoch = refuse_lost(mount)
    record = mount.last_record()
    if epoch is None or (record is not None and record.supervisor.alive()):
        return epoch
    store = mount.store(patience=limits.patience, deadline=limits.deadline)
    error = superseded(mount, store)
    if error is not None:
        raise error
    return epoch


def superseded(mount: Mount, store: Store) -> NotDurableError | None:
    """The error of a writer whose run is another one's by now; the store is asked.

    To be asked before anything is removed that counts, and after the last proof. Whoever renews the
    lease asks every few seconds, and may not have heard of it yet: the machine was cut off, or
    stood still, and this process is the first to go on.

    Raises MountkitError if the store cannot be asked.
    """
    epoch = writer_epoch.read(mount.directory.path)
    if epoch is None:
        return None
    error = lease_object.confirm(store.at(mount.spec.source), epoch.epoch)
    reason = epoch.lost or (error.message if error else "")
    return lost(mount, reason) if reason else None


def lost(mount: Mount, reason: str) -> NotDurableError:
    """The error of a writer whose run is another one's by now."""
    return NotDurableError(
        f"The lease of {mount.source} is lost: {reason.rstrip('.')}.",
        hint=f"This run proves nothing any more. See what counts: mountkit latest {mount.source}",
        unproven=(Unproven(mount.path, 0, f"the lease of the run is lost: {reason}"),),
    )


def write_manifest(store: Store, path: str, manifest: Manifest, *, replaces: bool) -> None:
    """Write a manifest, and never in the place of one of a later epoch.

    ``replaces`` says that there is one already, as far as is known.

    Raises NotDurableError if another writer has proven the checkpoint meanwhile.
    """
    content = manifest.to_bytes()
    try:
        if manifest.epoch is None:
            store.put(path, content)
            return
        if not replaces and store.put_if(path, content, tag=None) is not None:
            return
        for _ in range(TRIES):
            there = store.read(path)
            # Ours: the answer to the first of two tries was lost.
            if there.data == content:
                return
            if there.data is not None:
                _refuse_later(store, path, there.data, manifest.epoch)
            if store.put_if(path, content, tag=there.tag or None) is not None:
                return
    except UnsupportedConditionError:
        store.put(path, content)
        return
    raise MountUnavailableError(
        f"{store.url(path)} is written by another one at the same time.",
        hint=f"See who writes there: mountkit doctor {store.source.url}",
    )


def _refuse_later(store: Store, path: str, data: bytes, epoch: int) -> None:
    try:
        there = Manifest.from_bytes(data)
    except VerificationError:
        # One that cannot be read makes no checkpoint.
        return
    if there.epoch is not None and there.epoch > epoch:
        reason = f"another writer (epoch {there.epoch}, and this one has {epoch}) has proven it"
        top = store.url(path).rpartition("/")[0]
        raise NotDurableError(
            f"{top} is not this run's any more: {reason}.",
            hint=f"See what counts: mountkit latest {store.source.url}",
            unproven=(Unproven(store.source.key(path).rpartition("/")[0], 0, reason),),
        )
