"""Local files copied into a mount by a process of its own.

A copy that is under way while the store is away cannot be broken off: where a file is closed only
once the store has it, the kernel keeps the process that closes it. That is then not the training's.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.config import settings, timeouts
from mountkit.errors import UsageError
from mountkit.formatting import printable
from mountkit.linux import helper, paths
from mountkit.linux.mount_table import lies_in
from mountkit.writers.whole_file import Copied, Destination

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mountkit.mounts.mount import Mount
    from mountkit.writers.whole_file import Pair

SCRIPT = Path(__file__).with_name("log_copies_child.py")
# So that no large file is broken off on a slow line.
SLOWEST_BYTES = 1_000_000


def apart(mount: Mount, pairs: Sequence[Pair]) -> Copied:
    """Copy local files into a mount in a process of its own, which ends with this one.

    For as long at most as a mount may say nothing, and a second more for each megabyte. What was
    copied by then is.

    Raises OSError if it cannot be started; MountkitError if a setting is wrong.
    """
    seconds = timeouts.limits(settings.load()).stall
    for local, _ in pairs:
        with contextlib.suppress(FileNotFoundError):
            seconds += local.stat().st_size / SLOWEST_BYTES
    given = {
        "path": _searched(mount),
        "into": asdict(Destination.of(mount)),
        "pairs": [[str(local), str(there)] for local, there in pairs],
    }
    ended = helper.run([str(SCRIPT), str(os.getpid())], seconds, json.dumps(given).encode())
    told = [json.loads(line) for line in ended.out.splitlines()]
    done = tuple(Path(each["done"]) for each in told if "done" in each)
    problems = [each["problem"] for each in told if "problem" in each]
    if ended.status != 0:
        why = ended.err or f"it ended with {ended.status}"
        if ended.status is None:
            why = f"no answer in {seconds:.0f} s"
        left = next((there for local, there in pairs if local not in done), pairs[-1][1])
        problems.append(f"the copy to {printable(str(left))} broke off: {why}")
    return Copied(done, tuple(problems))


def _searched(mount: Mount) -> list[str]:
    """Where Python looks for modules, but in the mount: each would be looked for there."""
    found = []
    for each in sys.path:
        # What is relative to a directory that is gone leads nowhere.
        with contextlib.suppress(UsageError):
            found.append(paths.resolve(each))
    return [each for each in found if not lies_in(each, mount.path)]
