"""Names that mean something: files, directories and objects that mountkit knows by name."""

from __future__ import annotations

import re

MANIFEST_NAME = "mountkit-manifest.json"
# In the run's prefix, the mount's own top: who may write there. Never deleted.
LEASE_NAME = "mountkit-lease.json"
# Of a node of a training with many ranks: in the checkpoint, until the manifest is written.
_RECEIPT = re.compile(r"mountkit-receipt-[0-9]{1,9}\.json")
TRAINER_STATE = "trainer_state.json"
# Write-back by the kernel may date a file a little later than the one written after it.
SAME_SAVE_SECONDS = 2.0
# Begins the name of an object that mountkit writes to see whether it may, and removes.
PROBE_NAME = ".mountkit-probe-"
# And of every directory in which the doctor tries what a save does.
DOCTOR_NAME = ".mountkit-doctor-"

# Below ``output_dir``: what a training copies its logs into, time and again.
RUN_LOGS = "logs"

# Where a daemon listens, in the private directory of its mount.
SOCKET_NAME = "rc.sock"


def receipt_name(node: int) -> str:
    """The object in a checkpoint that says what a node has proven of it."""
    return f"mountkit-receipt-{node}.json"


def is_proof(path: str) -> bool:
    """Whether it is a manifest or a receipt: what mountkit writes beside the files of a save."""
    name = path.rpartition("/")[2]
    return name == MANIFEST_NAME or _RECEIPT.fullmatch(name) is not None


def is_own(path: str) -> bool:
    """Whether mountkit itself put it there, as the lease or to see what works: it is nobody's data.

    rclone may keep a record of a file that was removed while it tried to upload it.
    """
    if path == LEASE_NAME:
        return True
    return any(part.startswith((PROBE_NAME, DOCTOR_NAME)) for part in path.split("/"))


_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")


def step_of(name: str) -> int | None:
    """The step in a directory's name, such as 30 in ``checkpoint-30``; None if it has none."""
    found = _CHECKPOINT.fullmatch(name)
    return int(found[1]) if found else None


def top_of(path: str) -> str:
    """The checkpoint that a file lies in, below the source; "" if it lies in none."""
    parts = path.split("/")[:-1]
    for count, part in enumerate(parts, 1):
        if step_of(part) is not None:
            return "/".join(parts[:count])
    return ""
