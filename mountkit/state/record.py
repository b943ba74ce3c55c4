"""The record of a mount, as its supervisor last wrote it down."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from mountkit.errors import ConfigurationError
from mountkit.formatting import timestamp
from mountkit.linux.process import ProcessIdentity  # noqa: TC001 - msgspec reads it
from mountkit.spec import MountSpec  # noqa: TC001 - as above

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger("mountkit")

FORMAT = 1
RECORD_NAME = "record.json"

MOUNTING = "mounting"
SERVING = "serving"
REPAIRING = "repairing"
FAILED = "failed"


def now() -> str:
    """The time as RFC 3339, in UTC."""
    return timestamp(time.time())


@dataclass(frozen=True, slots=True)
class MountRecord:
    """A mount as its supervisor last wrote it down."""

    spec: MountSpec
    state: str
    since: str
    supervisor: ProcessIdentity
    daemon: ProcessIdentity | None = None
    # The minor number of the mount's device: what the mount table knows it by. None also once the
    # machine was restarted, which gives the number to somebody else's mount.
    device: int | None = None
    remounts: int = 0
    reason: str = ""
    # When the mount was first made, in seconds since the epoch: what the cache holds from before
    # is left of another run.
    began: float = 0.0
    # Files that waited in the cache for their upload when the mount was made.
    adopted: tuple[str, ...] = ()
    # When the daemon was lost, in seconds since the epoch: a save under way then may be torn.
    lost: tuple[float, ...] = ()
    # What bypassed the mount and was named by earlier runs, each time by name and mark: not this
    # run's concern.
    strays_before: tuple[tuple[str, str], ...] = ()
    # Checkpoints that had no manifest before anything was written through this mount.
    unproven_before: tuple[str, ...] = ()
    # Files that the last drain could not prove, for the next mount to take up; and when it named
    # them and all else that was lost, in seconds since the epoch. Whoever was killed has named
    # nothing, nor has one that never came to its drain.
    unproven: tuple[str, ...] = ()
    named: float = 0.0
    # When the mount was made by the store's clock, in seconds since the epoch.
    store_began: float = 0.0
    # What somebody else has had mounted over it: what was written there is not in the store.
    covered: str = ""

    @property
    def cut_off(self) -> bool:
        """Whether its run has not named what it could not prove: its drain came to no end."""
        return self.named <= self.began

    @property
    def told_until(self) -> float:
        """Until when an earlier run has named all that was lost, in seconds since the epoch."""
        return min(self.named, self.began)

    def change(self, state: str, **fields: Any) -> MountRecord:
        """A copy in another state, as of now."""
        return replace(self, state=state, since=now(), **fields)


def parse(content: dict[str, Any], place: Path) -> MountRecord:
    """Read a record, also one of an earlier version.

    Raises ConfigurationError if it is damaged; the message names ``place``.
    """
    try:
        # Earlier versions did not write down when they named what they could not prove.
        content = {"named": 0.0, **content}
        fields = {name: content[name] for name in MountRecord.__dataclass_fields__}
        # Nor more than the name of a file that bypassed the mount.
        before = [[each, ""] if isinstance(each, str) else each for each in fields["strays_before"]]
        record = msgspec.convert({**fields, "strays_before": before}, MountRecord, strict=False)
    except (KeyError, TypeError, ValueError) as error:
        why = str(error) if isinstance(error, msgspec.ValidationError) else repr(error)
        raise ConfigurationError(
            f"{place / RECORD_NAME} was written by another version of mountkit ({why}).",
            hint=f"If nothing of yours is mounted, remove it: rm -r {place}",
        ) from error
    # A restart of the machine gives the number to somebody else's mount.
    ours = (record.daemon or record.supervisor).of_this_boot()
    return record if ours else replace(record, device=None)
