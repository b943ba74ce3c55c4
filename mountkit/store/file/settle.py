"""A file brought to its disk, and out of the kernel's memory, by a process that may be given up."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.linux import helper

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.errors import MountkitError

SCRIPT = Path(__file__).with_name("settle_child.py")


@dataclass(frozen=True, slots=True)
class Settled:
    """What is at a place.

    ``directory`` is whether the source is one, ``mount`` the id of the mount that the file lies on,
    or else the source, or what there is of its path. ``stamp`` tells the file from another that is
    written in its place, and is empty if there is none; ``writable`` is whether this user may write
    it. ``failed`` is what the file system said against it.
    """

    directory: bool
    mount: int
    stamp: tuple[int, ...] = ()
    writable: bool = True
    failed: str = ""


def look(
    top: str, seconds: float, silent: MountkitError, watch: Callable[[], object] | None = None
) -> Settled:
    """Which directory the source is.

    Raises ``silent`` if there is no answer in ``seconds``, and what ``watch`` does meanwhile.
    """
    return _asked([top], seconds, silent, watch)


def settle(
    top: str,
    path: str,
    seconds: float,
    silent: MountkitError,
    watch: Callable[[], object] | None = None,
) -> Settled:
    """Sync a file, and each directory that it lies in; then drop what the kernel has cached of it.

    ``top``, ``path``: Absolute, of the source and of the file.

    Raises ``silent`` if there is no answer in ``seconds``, and what ``watch`` does meanwhile.
    """
    return _asked([top, path], seconds, silent, watch)


def _asked(
    words: list[str],
    seconds: float,
    silent: MountkitError,
    watch: Callable[[], object] | None,
    script: tuple[str, ...] = (str(SCRIPT),),
) -> Settled:
    ended = helper.run([*script, *words], seconds, watch=watch)
    if ended.status is None:
        raise silent
    if ended.status != 0:
        why = ended.err or f"the process that asked it ended with {ended.status}"
        return Settled(directory=False, mount=-1, failed=why)
    told = json.loads(ended.out)
    return Settled(**{**told, "stamp": tuple(told["stamp"] or ())})
