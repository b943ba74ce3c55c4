"""Leases of others: who holds one elsewhere, and what such a one writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mountkit.checkpoints.lease import Epoch, Holder, Lease

START = datetime(2026, 1, 1, tzinfo=UTC)
#: On another machine: nobody here can tell whether it runs.
ELSEWHERE = Holder("node-b", 4711, "0123456789ab", 1, "another boot")


def at(seconds: float) -> datetime:
    """A moment by the store's clock."""
    return START + timedelta(seconds=seconds)


def lease_of(
    holder: Holder = ELSEWHERE,
    *since: float,
    source: str = "s3://bucket/run",
    released: bool = False,
    renewal: int = 0,
) -> Lease:
    """A lease with an epoch that began at each of these moments, the last one the holder's."""
    epochs = tuple(Epoch(number, at(begun)) for number, begun in enumerate(since or (0.0,), 1))
    return Lease(source, holder, epochs, renewal, released)
