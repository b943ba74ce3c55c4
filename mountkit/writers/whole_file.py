"""A file of a mount gets a new content, from its start to its end: every backend takes that.

A process is started for this alone (``training/log_copies.py``), so it imports as little as it can.
"""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from mountkit import backends
from mountkit.errors import MountkitError
from mountkit.formatting import printable
from mountkit.writers import startup_hook
from mountkit.writers.hooks import in_table, takes_any_write, target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from mountkit.mounts.mount import Mount

    #: A local file, and where it belongs.
    Pair = tuple[Path, Path]

CHUNK_BYTES = 1024 * 1024
# Such a file is being read, or may not be replaced: the next one may well be written.
ABOUT_ONE_FILE = frozenset(
    {errno.EPERM, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}
)


@dataclass(frozen=True, slots=True)
class Destination:
    """What is to be known of a mount to copy into it.

    ``path`` is where it is, ``directory`` its private one; ``mounts`` whether something has to be
    mounted there, ``sequential`` whether it takes sequential writes only.
    """

    path: str
    directory: str
    mounts: bool
    sequential: bool

    @classmethod
    def of(cls, mount: Mount) -> Destination:
        """That of a mount."""
        mounts = backends.load(mount.spec.backend).mounts
        return cls(mount.path, str(mount.directory.path), mounts, not takes_any_write(mount))


@dataclass(frozen=True, slots=True)
class Copied:
    """The local files that were copied, and what kept others from it, in words."""

    done: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()


def copy_into(into: Destination, source: Path, path: Path) -> None:
    """Write what a local file holds to ``path``, in place of what is there.

    Nothing is appended and nothing renamed. On a mount for sequential writes the bytes are in the
    store when this returns.

    ``path`` lies below the mount; directories that are missing are made.

    Raises OSError if nothing is mounted, or the file cannot be written.
    """
    if into.mounts and not in_table(into.path):
        # Below the target lies somebody's disk, from which nothing would be uploaded.
        raise OSError(errno.ENOTCONN, "Nothing is mounted right now", into.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as content, _opened(into, path) as file:
        shutil.copyfileobj(content, file, CHUNK_BYTES)


def copy_all(
    into: Destination,
    pairs: Sequence[Pair],
    copy: Callable[[Destination, Path, Path], None] = copy_into,
    tell: Callable[[Path], object] = lambda _: None,
) -> Copied:
    """Copy local files to their places in the mount, one by one; ``tell`` of each at once.

    A local file that is gone is passed over. Where the mount does not take one file, the others are
    not tried: each might take as long as the daemon waits for the store.
    """
    done, problems = [], []
    for local, there in pairs:
        try:
            copy(into, local, there)
            done.append(local)
            tell(local)
        except FileNotFoundError as error:
            if error.filename != str(local):
                problems.append(_problem(there, error))
        except (OSError, MountkitError) as error:
            problems.append(_problem(there, error))
            if not (isinstance(error, OSError) and error.errno in ABOUT_ONE_FILE):
                break
    return Copied(tuple(done), tuple(problems))


def _opened(into: Destination, path: Path) -> AbstractContextManager[BinaryIO]:
    if not into.sequential:
        return path.open("wb")
    target = target_of([startup_hook.sequential_place(into.path, Path(into.directory))], path)
    if target is None:
        raise OSError(errno.EXDEV, f"It leads out of the mount at {into.path}", str(path))
    # It has write() alone, which is all that is called.
    return cast("AbstractContextManager[BinaryIO]", target.open())


def _problem(there: Path, error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else error
    return f"{printable(str(there))}: {reason or error}"
