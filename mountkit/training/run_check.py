"""Whether a training will be able to save into its mount, asked before its first step."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mountkit import backends, writers
from mountkit.errors import WrongNodeError
from mountkit.mounts import location, working_directory
from mountkit.training import file_use, requirements

if TYPE_CHECKING:
    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount

LOCAL = (
    "mountkit: no mount covers %s; checkpoints stay on the local disk, unproven. "
    "To save into a bucket: mountkit run s3://BUCKET/PREFIX %s -- COMMAND"
)


def refuse_node(args: Any, mount: Mount | None) -> None:
    """Refuse a training of its own on a node that is not the run's first.

    Nobody keeps such nodes, which take no lease, from replacing each other's checkpoints.

    Raises WrongNodeError.
    """
    if mount is None or not mount.spec.node or args.process_index:
        return
    if args.world_size > int(os.environ.get("LOCAL_WORLD_SIZE") or 1):
        # All train together, and whoever handed out the ranks counted the nodes in another order.
        return
    raise WrongNodeError(
        f"Rank 0 saves on node {mount.spec.node} of this run, whose manifests node 0 writes: each "
        "node would train by itself and replace what the others saved.",
        hint="Start the ranks of all nodes with torchrun, with the node's number as its rank "
        "(--node-rank, or PET_NODE_RANK). For a training of its own: another URL, and no "
        "MOUNTKIT_NODE.",
    )


def check(
    args: Any, mount: Mount, limits: Limits, folder: str = "", *, mirrored: bool = False
) -> str:
    """See that the mount takes what it will write; where it saves, relative to the mount.

    ``folder``: Where a run of a search saves, instead of ``output_dir``. ``mirrored``: Whether
    TensorBoard's events are written elsewhere, and copied.

    Raises
    ------
    ConfigurationError
        If it does something that the mount cannot do, or saves outside of it.
    MountUnavailableError
        If the mount does not serve.
    """
    backend = backends.load(mount.spec.backend)
    run = file_use.of(args, mount, events_are_mirrored=mirrored)
    requirements.refuse(run, backend.name, backend.unsupported_operations)
    writers.install(mount)
    mount.wait_until_serving(limits.repair)
    working_directory.refuse_below(mount.path, args.output_dir)
    # A link to this run's directory, perhaps; what is saved through it has the key behind it.
    return location.followed(mount, mount.relative(folder or args.output_dir))
