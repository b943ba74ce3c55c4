"""Lists the files below a directory; see ``walk``. Run as a script, by a helper.

Usage: ``walk_child.py TOP [BELOW]``. Standard output gets, each ended by a NUL, the device and the
inode of TOP; then, for each file below TOP/BELOW, its path relative to TOP; ``f``, ``l`` for a
link, or ``o`` for one that leads out of TOP; bytes; the nanoseconds of its last change, and of that
of its content; its inode; and its directory's last change. A directory BELOW that is not there has
none.
"""

import os
import stat
import sys


def main(top: bytes, below: bytes) -> None:
    """Walk, and tell."""
    # Where the disk is gone, and its directory with it, an empty answer would be a wrong one.
    seen = os.stat(top)  # noqa: PTH116 - a bare Python starts sooner
    sys.stdout.buffer.write(b"%d\0%d\0" % (seen.st_dev, seen.st_ino))
    inside = os.path.join(os.path.realpath(top), b"")  # noqa: PTH118
    folders = [os.path.join(top, below) if below else top]  # noqa: PTH118
    while folders:
        folder = folders.pop()
        try:
            changed = os.stat(folder).st_mtime_ns  # noqa: PTH116
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            if os.stat(folder).st_uid == os.geteuid():  # noqa: PTH116
                raise
            # Somebody else's, such as lost+found: this user has saved nothing there.
            continue
        for entry in entries:
            try:
                seen = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(seen.st_mode):
                folders.append(entry.path)
                continue
            link = stat.S_ISLNK(seen.st_mode)
            if link or stat.S_ISREG(seen.st_mode):
                path = os.path.relpath(entry.path, top)
                kind = "f"
                if link:
                    leads = os.path.join(os.path.realpath(entry.path), b"")  # noqa: PTH118
                    kind = "l" if leads.startswith(inside) else "o"
                numbers = (seen.st_size, seen.st_ctime_ns, seen.st_mtime_ns, seen.st_ino, changed)
                told = [path, *(str(word).encode() for word in (kind, *numbers))]
                sys.stdout.buffer.write(b"".join(word + b"\0" for word in told))
        # Whoever waits hears that it goes on.
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main(os.fsencode(sys.argv[1]), os.fsencode("".join(sys.argv[2:3])))
    except OSError as error:
        sys.exit(f"{os.fsdecode(error.filename or sys.argv[1])}: {error.strerror}")
