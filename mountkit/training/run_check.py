"""Whether a training will be able to save into its mount, asked before its first step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mountkit import backends, writers
from mountkit.errors import ConfigurationError
from mountkit.mounts import location, working_directory
from mountkit.training import arguments, requirements

if TYPE_CHECKING:
    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount

LOCAL = (
    "mountkit: no mount covers %s; checkpoints stay on the local disk, unproven. "
    "To save into a bucket: mountkit run s3://BUCKET/PREFIX %s -- COMMAND"
)


def no_search() -> ConfigurationError:
    """What a hyper-parameter search is told."""
    return ConfigurationError(
        "A hyper-parameter search saves below run-N folders, which mountkit does not prove yet.",
        hint="Leave CheckpointCallback out; mountkit run proves all at the end.",
    )


def check(args: Any, mount: Mount, limits: Limits) -> str:
    """See that the mount takes what it will write; ``output_dir``, relative to the mount.

    Raises
    ------
    ConfigurationError
        If it does something that the mount cannot do, or saves outside of it.
    MountUnavailableError
        If the mount does not serve.
    """
    backend = backends.load(mount.spec.backend)
    run = arguments.asked(args, mount)
    requirements.refuse(run, backend.name, backend.unsupported_operations)
    writers.install(mount)
    mount.wait_until_serving(limits.repair)
    working_directory.refuse_below(mount.path, args.output_dir)
    # A link to this run's directory, perhaps; what is saved through it has the key behind it.
    return location.followed(mount, mount.relative(args.output_dir))
