"""Everyday file operations as values, and the program that does them as a careless one does.

The standard library only, for the program runs in a Python of its own: what is refused is passed
over, and the next operation is done.
"""

# ruff: noqa: PTH101, PTH103, PTH105, PTH108, PTH118, PTH211
from __future__ import annotations

import errno
import json
import os
import pickle
import random
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

HOW = {
    "rb": os.O_RDONLY,
    "r+b": os.O_RDWR,
    "wb": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "w+b": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "xb": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
}
WHOLE = {"wb", "w+b", "xb"}
SKIPPED = "skipped"
PARTS = 64 << 10


def content(tag: int, size: int) -> bytes:
    """The bytes of a write: of each tag others."""
    return random.Random(tag).randbytes(size)


@dataclass(frozen=True)
class Open:
    handle: int
    path: str
    how: str


@dataclass(frozen=True)
class Write:
    """At the place where the descriptor stands, or at a place of the file."""

    handle: int
    data: tuple[int, int] | bytes
    at: int | None = None

    @property
    def bytes(self) -> bytes:
        return self.data if isinstance(self.data, bytes) else content(*self.data)


@dataclass(frozen=True)
class Truncate:
    handle: int
    size: int


@dataclass(frozen=True)
class Sync:
    handle: int


@dataclass(frozen=True)
class Close:
    handle: int


@dataclass(frozen=True)
class Resize:
    path: str
    size: int


@dataclass(frozen=True)
class MakeFolders:
    path: str


@dataclass(frozen=True)
class Rename:
    source: str
    target: str


@dataclass(frozen=True)
class Move:
    """As ``shutil.move`` does: where the rename is refused, by a copy."""

    source: str
    target: str


@dataclass(frozen=True)
class Copy:
    source: str
    target: str


@dataclass(frozen=True)
class Symlink:
    to: str
    path: str


@dataclass(frozen=True)
class Link:
    source: str
    target: str


@dataclass(frozen=True)
class Remove:
    path: str


@dataclass(frozen=True)
class RemoveTree:
    path: str


@dataclass(frozen=True)
class Mode:
    path: str
    mode: int


@dataclass(frozen=True)
class Touch:
    path: str


@dataclass(frozen=True)
class Read:
    path: str


Action = (
    Open | Write | Truncate | Sync | Close | Resize | MakeFolders | Rename | Move | Copy
    | Symlink | Link | Remove | RemoveTree | Mode | Touch | Read
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What one program does. ``inside``: by relative paths, from a directory of the mount."""

    inside: bool
    actions: tuple[Action, ...]

    @property
    def leaves_open(self) -> bool:
        opened = {action.handle for action in self.actions if isinstance(action, Open)}
        return opened != {action.handle for action in self.actions if isinstance(action, Close)}


@dataclass(frozen=True)
class Outcome:
    """``error`` is "" if it was done, the name of the errno if it was refused.

    ``left`` are the files that are there after a removal that broke off.
    """

    error: str = ""
    left: tuple[str, ...] = ()


class Performer:
    """One program at work below ``top``; ``prefix`` is what it puts before each path."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._open: dict[int, int] = {}

    def close(self) -> None:
        """The end of the program is the end of its descriptors."""
        for descriptor in self._open.values():
            try:
                os.close(descriptor)
            except OSError as error:
                print(error, file=sys.stderr)
        self._open.clear()

    def perform(self, action: Action) -> Outcome:
        handle = getattr(action, "handle", None)
        if handle is not None and not isinstance(action, Open) and handle not in self._open:
            return Outcome(SKIPPED)
        try:
            self._do(action)
        except (OSError, shutil.Error) as error:
            number = getattr(error, "errno", None) or 0
            left = self._below(action.path) if isinstance(action, RemoveTree) else ()
            return Outcome(errno.errorcode.get(number, str(error)), left)
        return Outcome()

    def place(self, path: str) -> str:
        return os.path.join(self._prefix, path)

    def _below(self, path: str) -> tuple[str, ...]:
        top = self.place(path)
        found = [os.path.join(at, name) for at, _, names in os.walk(top) for name in names]
        return tuple(f"{path}/{os.path.relpath(name, top)}" for name in found)

    def _do(self, action: Action) -> None:
        match action:
            case Open(handle, path, how):
                self._open[handle] = os.open(self.place(path), HOW[how], 0o644)
            case Write(handle, _, at):
                self._write(self._open[handle], action.bytes, at)
            case Truncate(handle, size):
                os.ftruncate(self._open[handle], size)
            case Sync(handle):
                os.fsync(self._open[handle])
            case Close(handle):
                os.close(self._open.pop(handle))
            case Resize(path, size):
                os.truncate(self.place(path), size)
                _see(self.place(path), size)
            case MakeFolders(path):
                Path(self.place(path)).mkdir(parents=True, exist_ok=True)
            case Rename(source, target):
                status = os.lstat(self.place(source))
                os.replace(self.place(source), self.place(target))
                _see_moved(self.place(target), status)
            case Move(source, target):
                status = os.lstat(self.place(source))
                shutil.move(self.place(source), self.place(target))
                _see_moved(self.place(target), status)
            case Copy(source, target):
                shutil.copyfile(self.place(source), self.place(target))
            case Symlink(to, path):
                os.symlink(to, self.place(path))
            case Link(source, target):
                os.link(self.place(source), self.place(target))
            case Remove(path):
                os.unlink(self.place(path))
            case RemoveTree(path):
                shutil.rmtree(self.place(path))
            case Mode(path, mode):
                os.chmod(self.place(path), mode)
            case Touch(path):
                os.utime(self.place(path))
            case Read(path):
                Path(self.place(path)).read_bytes()

    @staticmethod
    def _write(descriptor: int, data: bytes, at: int | None) -> None:
        for start in range(0, len(data), PARTS):
            rest = data[start : start + PARTS]
            while rest:
                if at is None:
                    done = os.write(descriptor, rest)
                else:
                    done = os.pwrite(descriptor, rest, at)
                    at += done
                rest = rest[done:]


def _see_moved(place: str, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode) and not Path(place).is_dir():
        _see(place, status.st_size)


def _see(place: str, size: int) -> None:
    """That a mount shows what was done to a file, as a disk does."""
    if os.lstat(place).st_size != size:
        raise OSError(errno.ENOTRECOVERABLE, "done, and not so", place)


def main(plan: str, told: str, top: str) -> None:
    """Do what ``plan`` has for each folder below ``top``; write what became of it to ``told``.

    What is left open stays so until standard input ends.
    """
    performers, outcomes = [], []
    for folder, run in pickle.loads(Path(plan).read_bytes()):
        place = os.path.join(top, folder)
        try:
            os.makedirs(place, exist_ok=True)
            if run.inside:
                os.chdir(place)
        except OSError as error:
            outcomes.append(
                [[errno.errorcode.get(error.errno or 0, str(error)), []]] * len(run.actions)
            )
            continue
        performers.append(Performer("" if run.inside else place))
        found = [performers[-1].perform(action) for action in run.actions]
        outcomes.append([[outcome.error, outcome.left] for outcome in found])
        if not run.leaves_open:
            performers[-1].close()
        # Whoever stands in the mount keeps it from being taken away.
        os.chdir("/")
    draft = Path(f"{told}.draft")
    draft.write_text(json.dumps(outcomes))
    draft.replace(told)
    if any(run.leaves_open for _, run in pickle.loads(Path(plan).read_bytes())):
        sys.stdin.buffer.read()
    for performer in performers:
        performer.close()
