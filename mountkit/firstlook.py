"""See that the store can be used, and what is in it, before anything is mounted."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit.apart import apart
from mountkit.store import S3Store

if TYPE_CHECKING:
    from mountkit.spec import MountSpec

# The look itself ends after some seconds; listing a large bucket takes longer.
LOOK_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What was found.

    ``unproven`` has the checkpoints that are there without a manifest; ``store_time`` is when the
    store dated what was written then, by its own clock, in seconds since the epoch.
    """

    unproven: tuple[str, ...]
    store_time: float


def first_look(spec: MountSpec) -> FirstLook:
    """See that the store can be used, and what is in it.

    Raises
    ------
    MountkitError
        What ``preflight.check`` raises.
    """
    from mountkit import checkpoints

    store = S3Store(spec.source, spec.store)
    dated = store.check().dated
    unproven = tuple(found.name for found in checkpoints.scan(store) if not found.proven)
    return FirstLook(unproven, time.time() if dated is None else dated.timestamp())


def first_look_apart(spec: MountSpec) -> FirstLook:
    """The same in a process of its own: a client of the store takes 30 MiB that stay."""
    return apart(functools.partial(first_look, spec), LOOK_SECONDS)
