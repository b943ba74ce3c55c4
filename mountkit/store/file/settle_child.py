"""Brings a file to its disk, and out of the kernel's memory; see ``settle``. Run as a script.

Usage: ``settle_child.py TOP [PATH]``. Standard output gets an object: ``directory``, whether TOP is
one; ``mount``, the id of the mount that PATH lies on, or else TOP, or what there is of it;
``stamp``, what tells the file from another that is written in its place, or null if it is not
there; ``writable``, whether it could be opened for writing; ``failed``, in words, where something
did not work.
"""

import errno
import json
import os
import stat
import sys
from collections.abc import Callable

Sync = Callable[[int], object]

# What has no way to sync a directory says so; its entries are as safe as it makes them.
NO_SYNC = {errno.EINVAL, errno.ENOTSUP}
# Whoever may write in a directory need not see those around it.
HIDDEN = {errno.EACCES, errno.EPERM}
MISSING = (FileNotFoundError, NotADirectoryError)


def settle(top: str, path: str = "", sync: Sync = os.fsync) -> dict[str, object]:
    """Do it, and say what came of it; ``sync`` is given a descriptor."""
    told: dict[str, object] = {"directory": False, "mount": -1, "stamp": None, "writable": True}
    told["failed"] = ""
    try:
        told["mount"], told["directory"] = look(os.path.realpath(top))
        if path:
            told.update(settle_file(path, sync))
            settle_directories(os.path.realpath(top), os.path.realpath(path), sync)
    except MISSING:
        pass
    except OSError as error:
        told["failed"] = error.strerror or str(error)
    return told


def look(top: str) -> tuple[int, bool]:
    """The mount that a path lies on, whose end may be missing; and whether it is a directory."""
    there = top
    while True:
        try:
            descriptor = os.open(there, os.O_PATH | os.O_CLOEXEC)
            break
        except MISSING:
            there = os.path.dirname(there)  # noqa: PTH120 - a bare Python starts sooner
    try:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        return mount_of(descriptor), there == top and is_directory
    finally:
        os.close(descriptor)


def settle_file(path: str, sync: Sync) -> dict[str, object]:
    """Sync it first: what is still to be written is not dropped."""
    descriptor, writable = open_file(path)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            sync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        now = os.fstat(descriptor)
        stamp = [now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns]
        return {"stamp": stamp, "mount": mount_of(descriptor), "writable": writable}
    finally:
        os.close(descriptor)


def open_file(path: str) -> tuple[int, bool]:
    """For writing, for SMB syncs no other; else for reading."""
    how = os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | how), True
    except OSError as error:
        if error.errno not in HIDDEN | {errno.EROFS, errno.EISDIR, errno.ETXTBSY}:
            raise
    return os.open(path, os.O_RDONLY | how), False


def mount_of(descriptor: int) -> int:
    """The id of the mount, as the mount table has it."""
    with open(f"/proc/self/fdinfo/{descriptor}") as info:  # noqa: PTH123
        for line in info:
            if line.startswith("mnt_id:"):
                return int(line.split()[1])
    return -1


def settle_directories(top: str, path: str, sync: Sync) -> None:
    """Sync the names, up to the top of the file system: a file without a name is lost."""
    device = os.stat(path).st_dev  # noqa: PTH116
    folder = path
    while folder != "/":
        folder = os.path.dirname(folder)  # noqa: PTH120
        try:
            if os.stat(folder).st_dev != device:  # noqa: PTH116
                return
            settle_directory(folder, sync)
        except OSError as error:
            below = folder == top or folder.startswith(f"{top}/")
            if error.errno not in HIDDEN or below:
                raise


def settle_directory(folder: str, sync: Sync) -> None:
    """Its entries."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    print(json.dumps(settle(sys.argv[1], "".join(sys.argv[2:3]))))
