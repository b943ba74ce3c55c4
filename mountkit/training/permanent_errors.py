"""What a mount refuses each time, while it is well: named, and no reason to save again."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.backends.file_operations import OPERATIONS

if TYPE_CHECKING:
    from mountkit.mounts.mount import Mount

# What a daemon, or the kernel for it, says of an operation that there is not.
UNSUPPORTED = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})
# Of two names: a link, or a rename.
PAIRED = ("symlink", "link", "rename")


def place(error: OSError) -> tuple[object, ...]:
    """What tells one failure from another: where it was raised, and of which file."""
    frames = traceback.extract_tb(error.__traceback__)[-1:]
    return (error.errno, error.filename, *((each.filename, each.lineno) for each in frames))


def described(error: OSError) -> str:
    """The error, its files, and the call that it comes from."""
    said = error.strerror or str(error) or type(error).__name__
    paths = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    text = f"{paths}: {said}" if paths and paths not in said else said
    frames = traceback.extract_tb(error.__traceback__)[-1:]
    called = "".join(
        f" (in {Path(each.filename).name}:{each.lineno}: {each.line})" for each in frames
    )
    return f"{text.rstrip('.')}{called}"


def again(error: OSError, mount: Mount, name: str) -> OSError:
    """The error of a save that failed twice in the same place, on a mount that is well."""
    return _named(
        error,
        f"{name} was saved twice and failed in the same place: {described(error)}. The mount at "
        f"{mount.path} is well; it refuses this each time. See what it takes: mountkit doctor "
        f"{mount.source} {mount.path}",
    )


def unsupported(error: OSError, mount: Mount) -> OSError | None:
    """The error of a link or a rename that such a mount does not do, with what to do; or None."""
    if error.errno not in UNSUPPORTED or error.filename2 is None:
        return None
    refuses = backends.load(mount.spec.backend).unsupported_operations
    missing = [each.does for each in OPERATIONS if each.name in PAIRED and each.name in refuses]
    if not missing:
        return None
    return _named(
        error,
        f"{described(error)}. The mount at {mount.path} is well; with {mount.spec.backend} it does "
        f"not {', '.join(missing)}. Copy the file instead, or see what each backend takes: "
        f"mountkit doctor {mount.source} {mount.path}",
    )


def _named(error: OSError, text: str) -> OSError:
    if error.filename2 is None:
        return OSError(error.errno, text, error.filename)
    return OSError(error.errno, text, error.filename, None, error.filename2)
