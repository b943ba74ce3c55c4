"""Where each rank saves, and which of them share a mount."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mountkit._version import __version__
from mountkit.checkpoints.receipt import Layout
from mountkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mountkit.mounts.mount import Mount

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Place(NamedTuple):
    """Where a rank saves: what decides on the node that it belongs to.

    ``node`` is the same for all ranks that share one mount, ``url`` for all that save in one place.
    ``saves`` tells whether Trainer has this rank write what is saved once.
    """

    node: tuple[str, ...] = ()
    url: str = ""
    saves: bool = False
    on_each_node: bool = False
    version: str = __version__

    @classmethod
    def of(cls, mount: Mount | None, below: str, args: Any) -> Place:
        """That of this process; without a mount, one that says so."""
        if mount is None:
            return cls(saves=args.should_save, on_each_node=args.save_on_each_node)
        found = mount.directory.path.stat()
        # Machines may have one name, containers one kernel, and both a directory of one path.
        node = (
            platform.node(),
            BOOT_ID.read_text().strip(),
            str(mount.directory.path),
            f"{found.st_dev}:{found.st_ino}",
        )
        url = mount.spec.source.child(below).url
        return cls(node, url, args.should_save, args.save_on_each_node)


def layout(places: Sequence[Place], rank: int) -> Layout | None:
    """Which ranks share a mount; None if none has one. Pure, and so the same on all ranks.

    Raises ConfigurationError if they cannot save one checkpoint together.
    """
    without = [each for each, place in enumerate(places) if not place.node]
    if len(without) == len(places):
        return None
    if without:
        raise ConfigurationError(
            f"output_dir lies in a mount on rank {places.index(_first_mounted(places))}, and in "
            f"none on rank {_listed(without)}: the files of those would not reach the bucket.",
            hint="Mount on every node, as with `mountkit run` around each node's torchrun.",
        )
    urls = sorted({place.url for place in places})
    if len(urls) > 1:
        raise ConfigurationError(
            f"The ranks save in different places: {', '.join(urls)}.",
            hint="Mount one URL on every node, and give one output_dir below it.",
        )
    versions = sorted({place.version for place in places})
    if len(versions) > 1:
        raise ConfigurationError(
            f"The ranks have different versions of mountkit: {', '.join(versions)}.",
            hint="Install one on every node.",
        )
    writers = [each for each, place in enumerate(places) if place.saves]
    if len(writers) > 1:
        raise ConfigurationError(
            f"Rank {_listed(writers)} each write the whole checkpoint to {urls[0]}: "
            "save_on_each_node has the nodes replace each other's files.",
            hint="Set save_on_each_node=False: the nodes share one bucket.",
        )
    nodes: dict[tuple[str, ...], list[int]] = {}
    for each, place in enumerate(places):
        nodes.setdefault(place.node, []).append(each)
    return Layout(rank, tuple(tuple(ranks) for ranks in nodes.values()))


def _first_mounted(places: Sequence[Place]) -> Place:
    return next(place for place in places if place.node)


def _listed(ranks: Sequence[int]) -> str:
    return " and ".join(str(rank) for rank in ranks)
