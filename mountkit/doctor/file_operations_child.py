"""Try what a save does with files. A program of its own, which can be killed when a mount hangs.

::

    python -I -S file_operations_child.py DIRECTORY [OPERATION...]
    python -I -S file_operations_child.py --leave DIRECTORY
    python -I -S file_operations_child.py --remove DIRECTORY

The first form makes DIRECTORY, tries each operation in it, reads back what it wrote, and removes
DIRECTORY again. It prints one JSON object a line. For each operation: ``operation``, ``works``,
``errno`` (0 if there was none), ``call`` (the one that failed) and ``problem``. At the end:
``left``, the paths that could not be removed. The second form makes DIRECTORY with a file in it,
and the third removes it again.

Only the standard library is used, so that it starts at once and needs nothing of its environment.
"""
# What is tried here are the very calls of os, one by one.
# ruff: noqa: PTH102, PTH112, PTH114, PTH119, PTH123, PTH208

from __future__ import annotations

import json
import mmap
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ARRIVAL = "arrival"
BODY = bytes(range(256)) * 512
OTHER = BODY[::-1][: len(BODY) // 2]
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
CHUNK = len(BODY) // 4


class WrongBytesError(Exception):
    """What is there is not what was written."""


class Hands:
    """What the operations are made of. ``call`` is what is being done right now."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.call = ""
        self.paths: list[str] = []

    def path(self, name: str) -> str:
        """Where a file or directory of that name goes."""
        path = self._prefix + name
        if path not in self.paths:
            self.paths.append(path)
        return path

    def do(self, call: str, function: Callable[..., object], *arguments: object) -> None:
        """Call a function under the name by which it is told from others."""
        self.call = call
        function(*arguments)

    @contextmanager
    def open(self, name: str, flags: int) -> Iterator[int]:
        """A file descriptor; an error of closing it is an error."""
        self.call = "open"
        descriptor = os.open(self.path(name), flags, 0o644)
        try:
            yield descriptor
        except BaseException:
            # The first error is the one that counts.
            with suppress(OSError):
                os.close(descriptor)
            raise
        self.do("close", os.close, descriptor)

    def put(self, descriptor: int, data: bytes) -> None:
        """Write all the bytes, in pieces."""
        self.call = "write"
        while data:
            data = data[os.write(descriptor, data[:CHUNK]) :]

    def make(self, name: str, data: bytes = BODY) -> None:
        """Write a new file."""
        with self.open(name, NEW) as descriptor:
            self.put(descriptor, data)

    def expect(self, name: str, expected: bytes) -> None:
        """Read a file back and compare it."""
        self.call = "reading it back"
        with open(self.path(name), "rb") as stream:
            found = stream.read()
        if found != expected:
            raise WrongBytesError(
                f"{len(found)} bytes came back, which are not the {len(expected)} written"
            )


def _mkdir(hands: Hands) -> None:
    path = hands.path("folder")
    hands.do("mkdir", os.mkdir, path)
    if not os.path.isdir(path):
        raise WrongBytesError("the new directory is not there")
    hands.do("rmdir", os.rmdir, path)


def _write(hands: Hands) -> None:
    hands.make("write")
    hands.expect("write", BODY)


def _fsync(hands: Hands) -> None:
    with hands.open("fsync", NEW) as descriptor:
        hands.put(descriptor, BODY)
        hands.do("fsync", os.fsync, descriptor)
    hands.expect("fsync", BODY)


def _fork_close(hands: Hands) -> None:
    with hands.open("fork-close", NEW) as descriptor:
        hands.put(descriptor, BODY[:CHUNK])
        child = os.fork()
        if child == 0:
            # Its end closes its copy of the descriptor while the file is still being written.
            os._exit(0)
        hands.do("the other process's close", os.waitpid, child, 0)
        hands.put(descriptor, BODY[CHUNK:])
    hands.expect("fork-close", BODY)


def _overwrite(hands: Hands) -> None:
    hands.make("overwrite")
    with hands.open("overwrite", os.O_WRONLY | os.O_TRUNC) as descriptor:
        hands.put(descriptor, OTHER)
    hands.expect("overwrite", OTHER)


def _unlink(hands: Hands) -> None:
    hands.make("unlink")
    path = hands.path("unlink")
    hands.do("unlink", os.unlink, path)
    if os.path.lexists(path):
        raise WrongBytesError("the file is still there")


def _rmtree(hands: Hands) -> None:
    file, inner, tree = map(hands.path, ("tree/inner/file", "tree/inner", "tree"))
    hands.do("mkdir", os.makedirs, inner)
    hands.make("tree/inner/file")
    hands.do("unlink", os.unlink, file)
    # On a bucket the directories may be gone with their last file.
    hands.do("rmdir", os.rmdir, inner)
    hands.do("rmdir", os.rmdir, tree)
    if os.path.lexists(tree):
        raise WrongBytesError("the directory is still there")


def _rename(hands: Hands) -> None:
    hands.make("rename")
    source, target = hands.path("rename"), hands.path("renamed")
    hands.do("rename", os.rename, source, target)
    hands.expect("renamed", BODY)
    # A file that is saved again is written beside the old one, and takes its place.
    hands.make("rename", OTHER)
    hands.do("rename onto a file", os.rename, source, target)
    hands.expect("renamed", OTHER)


def _chmod(hands: Hands) -> None:
    hands.make("chmod")
    hands.do("chmod", os.chmod, hands.path("chmod"), 0o644)
    hands.expect("chmod", BODY)


def _seek(hands: Hands) -> None:
    with hands.open("seek", NEW) as descriptor:
        hands.put(descriptor, BODY)
        hands.do("lseek", os.lseek, descriptor, CHUNK, os.SEEK_SET)
        hands.put(descriptor, OTHER[:CHUNK])
    hands.expect("seek", BODY[:CHUNK] + OTHER[:CHUNK] + BODY[2 * CHUNK :])


def _append(hands: Hands) -> None:
    hands.make("append")
    with hands.open("append", os.O_WRONLY | os.O_APPEND) as descriptor:
        hands.put(descriptor, OTHER)
    hands.expect("append", BODY + OTHER)


def _symlink(hands: Hands) -> None:
    hands.make("linked")
    path, draft = hands.path("symlink"), hands.path("symlink-draft")
    hands.do("symlink", os.symlink, "nowhere", path)
    # How a link that says which one is the latest is brought up to date.
    hands.do("symlink", os.symlink, os.path.basename(hands.path("linked")), draft)
    hands.do("rename onto a link", os.rename, draft, path)
    if not os.path.islink(path):
        raise WrongBytesError("a file or nothing came back in place of the link")
    hands.expect("symlink", BODY)


def _link(hands: Hands) -> None:
    hands.make("link")
    hands.do("link", os.link, hands.path("link"), hands.path("other-link"))
    hands.expect("other-link", BODY)


def _overwrite_mapped(hands: Hands) -> None:
    hands.make("overwrite-mapped")
    with open(hands.path("overwrite-mapped"), "rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    with mapped:
        # Only a page that was read keeps the file busy. None is read after the file is cut off.
        first = mapped[:1]
        with hands.open("overwrite-mapped", os.O_WRONLY | os.O_TRUNC) as descriptor:
            hands.put(descriptor, OTHER)
    if first != BODY[:1]:
        raise WrongBytesError("the mapping shows other bytes")
    hands.expect("overwrite-mapped", OTHER)


OPERATIONS: dict[str, Callable[[Hands], None]] = {
    "mkdir": _mkdir,
    "write": _write,
    "fsync": _fsync,
    "fork-close": _fork_close,
    "overwrite": _overwrite,
    "unlink": _unlink,
    "rmtree": _rmtree,
    "rename": _rename,
    "chmod": _chmod,
    "seek": _seek,
    "append": _append,
    "symlink": _symlink,
    "link": _link,
    "overwrite-mapped": _overwrite_mapped,
}


def attempt(hands: Hands, operation: str) -> dict[str, object]:
    """Try one operation, whatever became of the others."""
    problem, number = "", 0
    try:
        OPERATIONS[operation](hands)
    except OSError as error:
        number = error.errno or 0
        problem = error.strerror or type(error).__name__
    except WrongBytesError as error:
        problem = str(error)
    return {
        "operation": operation,
        "works": not problem,
        "errno": number,
        "call": hands.call if problem else "",
        "problem": problem,
    }


def attempt_all(directory: str, operations: Sequence[str]) -> None:
    """Try the operations in a directory made for them, and print what came of each."""
    prefix = f"{directory}/"
    try:
        os.mkdir(directory)
    except OSError:
        # Where no directory can be made, "mkdir" says why; the others still have their turn.
        prefix = f"{directory}-"
    hands = Hands(prefix)
    for operation in operations:
        print(json.dumps(attempt(hands, operation)), flush=True)
    print(json.dumps({"left": remove([*hands.paths, directory])}), flush=True)


def leave(directory: str) -> None:
    """Make the directory, with one file in it."""
    os.mkdir(directory)
    Hands(f"{directory}/").make(ARRIVAL)


def remove(paths: Iterable[str]) -> list[str]:
    """Remove files and empty directories; those that could not be removed."""
    left = []
    for path in paths:
        # On a bucket a directory can be gone with the last file in it.
        with suppress(FileNotFoundError):
            try:
                folder = os.path.isdir(path) and not os.path.islink(path)
                (os.rmdir if folder else os.unlink)(path)
            except FileNotFoundError:
                raise
            except OSError:
                left.append(path)
    return left


def main(words: Sequence[str]) -> None:
    """Run one of the three forms."""
    if words[0] == "--leave":
        leave(words[1])
    elif words[0] == "--remove":
        top = words[1]
        names = os.listdir(top) if os.path.isdir(top) else []
        print(json.dumps({"left": remove([*(f"{top}/{name}" for name in names), top])}))
    else:
        attempt_all(words[0], words[1:] or list(OPERATIONS))


if __name__ == "__main__":
    main(sys.argv[1:])
