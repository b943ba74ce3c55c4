"""The epoch with which all processes of a mount write, and whether it was lost meanwhile.

In the private directory of the mount: the process that has the lease is not the only one that
writes manifests.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mountkit.errors import ConfigurationError
from mountkit.state import json_file

if TYPE_CHECKING:
    from pathlib import Path

EPOCH_NAME = "epoch.json"


@dataclass(frozen=True, slots=True)
class WriterEpoch:
    """``run`` is the URL at which the lease lies; ``lost`` says who has it now, "" for us."""

    epoch: int
    run: str
    lost: str = ""


def write(directory: Path, epoch: WriterEpoch | None) -> None:
    """Write down the epoch of a mount; None for a mount without a lease."""
    if epoch is None:
        (directory / EPOCH_NAME).unlink(missing_ok=True)
    else:
        json_file.replace(directory / EPOCH_NAME, asdict(epoch))


def read(directory: Path) -> WriterEpoch | None:
    """The epoch of a mount, None for a mount without a lease.

    Raises ConfigurationError if it is damaged.
    """
    path = directory / EPOCH_NAME
    content = json_file.load(path)
    if content is None:
        return None
    epoch, run, lost = (content.get(name) for name in ("epoch", "run", "lost"))
    if isinstance(epoch, int) and isinstance(run, str) and isinstance(lost, str):
        return WriterEpoch(epoch, run, lost)
    raise ConfigurationError(
        f"{path} does not tell the epoch of the mount.",
        hint="Mount it anew: mountkit status",
    )
