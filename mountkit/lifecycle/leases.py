"""The lease of a run at the start of a mount: who takes it, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.checkpoints.lease import Holder
from mountkit.checkpoints.lease_object import Awaited, Held, Unheld
from mountkit.events import Problem
from mountkit.linux import machine
from mountkit.linux.process import ProcessIdentity
from mountkit.state import writer_epoch
from mountkit.supervision.lease_keeper import LeaseKeeper, NoLease

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.events import Observer
    from mountkit.mounts.inventory import Inventory
    from mountkit.mounts.mount import Mount
    from mountkit.spec import MountSpec
    from mountkit.store.base import Store
    from mountkit.supervision.lease_keeper import Keeping

# Three requests go unanswered before a lease runs out.
PATIENCE_SECONDS = 9.0


def mine(spec: MountSpec) -> Holder | None:
    """Name this process, which will supervise the mount; nobody but on the run's first node."""
    if spec.node:
        return None
    me = ProcessIdentity.mine()
    return Holder(machine.host(), me.pid, spec.id, me.started, machine.place())


def nobody(spec: MountSpec) -> None:
    """For a mount that only tries what works, and proves no checkpoint of a run."""


def look(
    mount: Mount, take: Callable[..., Inventory], holder: Holder | None, observer: Observer
) -> Inventory:
    """What is in the store, with the lease taken; says so where that has to wait.

    Raises MountUnavailableError if another writer has the run.
    """
    found = take(mount, holder)
    if isinstance(found.lease, Awaited):
        lease = found.lease.lease
        observer(
            Problem(
                f"{mount.source} was held by {lease.holder} a moment ago (epoch {lease.epoch}); if "
                f"it does not renew its lease, this run takes over in {found.lease.seconds:.0f} s"
            )
        )
        found = take(mount, holder, wait=True)
    return found


def keep(mount: Mount, lease: Held | Unheld | Awaited | None, observer: Observer) -> Keeping:
    """Begin to renew the lease that was taken; say so where there is none."""
    if not isinstance(lease, Held):
        writer_epoch.write(mount.directory.path, None)
        if isinstance(lease, Unheld):
            observer(
                Problem(
                    f"{mount.source} has no lease, so a second writer is not seen: {lease.reason}"
                )
            )
        return NoLease()

    def opened() -> Store:
        return mount.store(patience=PATIENCE_SECONDS)

    keeper = LeaseKeeper(opened, lease, mount.directory.path, observer)
    keeper.start()
    return keeper
