"""What has to be in the bucket after everyday operations, and what has to be named.

The model is a plain directory in which everything is done that the mount did not refuse.

1. Truth. Each object is what the model has under its path, and none is missing or left over; or its
   path, or a directory above it, is named. Content that was refused (an open to write, with
   something to write; a write; a change of size) and not written anew is named.
2. No false alarm. What is named differs from the model, or was refused and not written anew, or was
   still open. Nothing else is.

A file that was removed while it is open, and written after that, may be in the bucket, or be named
as still open: rclone makes it anew. A change of size that rclone refuses with EIO came before it
had heard of the close before it: the program is told, and tries again. Neither loses anything in
silence. An open to append that Mountpoint refuses, right beside a change of the file's times, looks
in its log as a ``touch`` does, which loses nothing: it may be named, or not.

An older file that is renamed onto one which waits for its upload, or given another size, is not
what a disk would have: rclone goes on with the file that was replaced, or fetches what was cut off.
The mount shows it, and the store gets what the mount shows; the README says so. So it is with an
older file that was removed, where its folder is renamed after that: the store copies it as well.

Of a checkpoint to which a later run adds, a file that is in no manifest may be named: nobody has
anything left to compare it with.

What was named once need not be named by the next run: from then on its path may hold either.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from support.perform import (
    SKIPPED,
    WHOLE,
    Close,
    Copy,
    Link,
    Move,
    Open,
    Outcome,
    Performer,
    Remove,
    RemoveTree,
    Rename,
    Resize,
    Symlink,
    Sync,
    Touch,
    Truncate,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from support.perform import Action, Run

LINK_SUFFIX = ".rclonelink"
MANIFEST = "mountkit-manifest.json"
# What the mount showed after an operation was not what had been asked for: see above.
NOT_SO = "ENOTRECOVERABLE"
# The program asked for what makes no sense where an earlier operation was refused.
MISTAKES = {"ENOENT", "ENOTDIR", "EISDIR", "ENOTEMPTY", "EEXIST", "ELOOP", SKIPPED}


@dataclass
class Model:
    """One sequence's plain directory, and what its runs were refused."""

    top: Path
    known: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    lost: dict[str, Action] = field(default_factory=dict)
    impossible: list[str] = field(default_factory=list)
    ghosts: set[str] = field(default_factory=set)
    _before: dict[str, bytes] = field(default_factory=dict)
    # Of this run: files that it wrote from their start, and every name in it.
    _fresh: set[str] = field(default_factory=set)
    _names: set[str] = field(default_factory=set)
    _displaced: set[int] = field(default_factory=set)
    _now: int = 0
    _opened_at: dict[int, int] = field(default_factory=dict)
    _changes: dict[str, int] = field(default_factory=dict)
    _refused_at: dict[str, int] = field(default_factory=dict)
    # Handles: those that write all of a file, those that wrote, when they were synced after that,
    # and those of which it does not matter that they were refused.
    _wholes: set[int] = field(default_factory=set)
    _writing: set[int] = field(default_factory=set)
    _synced: dict[int, int] = field(default_factory=dict)
    _excused: set[int] = field(default_factory=set)

    def replay(self, run: Run, outcomes: Sequence[Outcome]) -> None:
        """Do in the model what was not refused."""
        self.top.mkdir(parents=True, exist_ok=True)
        performer = Performer(str(self.top))
        opened: dict[int, Open] = {}
        refused: dict[int, Open] = {}
        removed: set[int] = set()
        self._excused |= _touches(run, outcomes)
        self._fresh.clear()
        self._names.clear()
        for action, outcome in zip(run.actions, outcomes, strict=True):
            self._now += 1
            if isinstance(action, Open):
                (refused if outcome.error else opened)[action.handle] = action
                self._opened_at[action.handle] = self._now
                self._look_at(action, outcome.error)
            if not outcome.error:
                there = performer.perform(action)
                if there.error:
                    self.impossible.append(f"{action} was done; a disk says {there.error}")
                self._settle(action, opened)
                self._note_content(action, opened)
                if isinstance(action, Remove):
                    removed.update(at for at, one in opened.items() if one.path == action.path)
                if isinstance(action, Write) and action.handle in removed:
                    self.ghosts.add(opened[action.handle].path)
                continue
            if isinstance(action, RemoveTree):
                self._remove_but(action.path, outcome.left)
            if isinstance(action, Move) and outcome.error not in MISTAKES:
                self._copy(action)
            self._doubt(action, outcome.error, opened, refused)
        for handle, action in opened.items():
            if handle not in {one.handle for one in run.actions if isinstance(one, Close)}:
                self.doubtful.add(action.path)
        performer.close()

    def _note_content(self, action: Action, opened: Mapping[int, Open]) -> None:
        """What this run wrote from its start, and what of an older file it gave another size."""
        for name in ("path", "source", "target"):
            self._names.update(filter(None, [getattr(action, name, "")]))
        match action:
            case Close(handle) if handle in self._displaced:
                # rclone notes it under its old name, where another file may be, or none.
                self.doubtful.add(opened[handle].path)
            case Close(handle) if handle in self._wholes:
                self._fresh.add(opened[handle].path)
            case Copy(_, target):
                self._fresh.add(target)
            case Rename(source, target) | Move(source, target):
                for handle, one in opened.items():
                    if _in(one.path, source) or _in(one.path, target):
                        self._displaced.add(handle)
                        self.doubtful.add(one.path)
                below = {one for one in self._fresh if _in(one, source)}
                self._fresh -= {one for one in self._fresh if _in(one, target)} | below
                self._fresh |= {target + one[len(source) :] for one in below}
                self.known |= {
                    target + one[len(source) :]
                    for one in self._names.union(self._before)
                    if one.startswith(f"{source}/")
                    and not (self.top / target).joinpath(one[len(source) + 1 :]).exists()
                }
            case Truncate(handle) if handle not in self._wholes:
                self._resized(opened[handle].path)
            case Resize(path):
                self._resized(path)

    def _resized(self, path: str) -> None:
        self.doubtful.add(path)
        if path not in self._fresh:
            self.known.add(path)

    def _look_at(self, action: Open, error: str) -> None:
        there = os.path.lexists(self.top / action.path)
        if action.how in WHOLE or not (there or action.path in self.known):
            # Also what is opened to append, and is not there yet.
            self._wholes.add(action.handle)
        if action.how == "xb" and (there or error == "EEXIST"):
            # So the program asked for; rclone also says it of a name just renamed away.
            self._excused.add(action.handle)

    def may_mean(self, name: str) -> set[str]:
        """The paths of that name in which something was refused."""
        refused = self.doubtful | self.known | set(self.lost)
        parts = {one: one.split("/") for one in refused}
        return {
            "/".join(words[: words.index(name) + 1]) for words in parts.values() if name in words
        }

    def judge(self, bucket: Mapping[str, bytes], named: Iterable[str]) -> list[str]:
        """What is wrong with the bucket and the names, in words."""
        expected, named = self._expected(), set(named)
        wrong = [f"not as on a disk: {text}" for text in self.impossible]
        self.impossible.clear()
        differing = set()
        for path in sorted({*expected, *bucket}):
            if expected.get(path) == bucket.get(path):
                continue
            differing.add(path)
            if path in self.ghosts and path not in expected:
                continue
            if path not in self.known and not _covered(path, named):
                wrong.append(
                    f"lost in silence: {path!r} has {_size(bucket.get(path))} in the bucket, "
                    f"{_size(expected.get(path))} in the model"
                )
        for path, action in self.lost.items():
            if not _covered(path, named):
                wrong.append(f"refused in silence: {path!r}: {action}")
        older = {path for path, data in bucket.items() if self._before.get(path) == data}
        unproven = {path for path in older if path.startswith("checkpoint-")}
        self._before = dict(bucket)
        allowed = differing | self.known | self.doubtful | self.ghosts | unproven
        wrong.extend(
            f"false alarm: {path!r}"
            for path in sorted(named)
            if not any(_in(one, path) for one in allowed)
        )
        self.lost.clear()
        self.known |= differing | (named & self.doubtful)
        return wrong

    def _expected(self) -> dict[str, bytes]:
        found = {}
        for folder, folders, names in os.walk(self.top):
            for path in (Path(folder) / name for name in [*names, *folders]):
                at = path.relative_to(self.top).as_posix()
                if path.is_symlink():
                    found[f"{at}{LINK_SUFFIX}"] = str(path.readlink()).encode()
                elif path.is_file():
                    found[at] = path.read_bytes()
        return found

    def _settle(self, action: Action, opened: Mapping[int, Open]) -> None:
        """What was written anew from its start, or removed, is no more in doubt."""
        match action:
            case Write(handle):
                self._writing.add(handle)
                self._synced.pop(handle, None)
                return
            case Sync(handle) if handle in self._writing:
                self._synced[handle] = self._now
                return
            case Close(handle) if handle in self._wholes:
                path = opened[handle].path
                # What was to be added, or changed, while it was being written is not in it.
                if self._changes.get(path, 0) > self._opened_at[handle]:
                    return
                # On Mountpoint the sync was the end of it, and what was refused then came later.
                if self._refused_at.get(path, 0) > self._synced.get(handle, self._now):
                    return
                paths = {path}
            case Remove(path):
                paths = {path}
            case Copy(_, target):
                paths = {target}
            case Move(source, target) | Rename(source, target):
                self._follow(source, target)
                return
            case RemoveTree(path):
                self.lost = {one: why for one, why in self.lost.items() if not _in(one, path)}
                return
            case _:
                return
        for path in paths:
            self.lost.pop(path, None)
            self.doubtful.discard(path)
            self.known.discard(path)

    def _follow(self, source: str, target: str) -> None:
        """What is said of a file, or of those below a directory, is said under its new name too."""
        for path in (source, target):
            self.lost = {one: why for one, why in self.lost.items() if not _in(one, path)}
        for group in (self.doubtful, self.known, self.ghosts):
            moved = {target + one[len(source) :] for one in group if _in(one, source)}
            if not moved:
                group.discard(target)
            group.update(moved)

    def _doubt(
        self, action: Action, error: str, opened: Mapping[int, Open], refused: Mapping[int, Open]
    ) -> None:
        match action:
            case Write(handle) | Truncate(handle) if handle in refused:
                # To write to it was the reason to open it.
                path, error = refused[handle].path, ""
                if refused[handle].how not in WHOLE:
                    self._changes[path] = self._now
                if handle in self._excused or (isinstance(action, Write) and not action.bytes):
                    self._suspect(path)
                else:
                    self._lose(path, refused[handle])
            case Truncate(handle, size) if handle in opened and self._has(
                opened[handle].path, size
            ):
                self._suspect(opened[handle].path)
            case Write(handle) | Truncate(handle) | Close(handle) if handle in opened:
                if not isinstance(action, Close):
                    self._changes[opened[handle].path] = self._now
                self._lose(opened[handle].path, action)
            case Resize(path, size):
                self._suspect(path)
                if error == NOT_SO:
                    # A file that is still being written is not whole by its end, either.
                    self.known.add(path)
                    self._changes[path] = self._now
                elif error not in {*MISTAKES, "EIO"} and not self._has(path, size):
                    self._lose(path, action)
            case Rename(one, two) | Move(one, two) | Copy(one, two) | Link(one, two):
                self._doubt_below(one)
                self._suspect(one, two)
                if error == NOT_SO:
                    self.known.update({one, two})
                if isinstance(action, Move | Copy):
                    # It may have broken off after the bytes were there.
                    self.known.add(two)
            case Symlink(_, path):
                self._suspect(path, f"{path}{LINK_SUFFIX}")
            case _ if getattr(action, "path", None):
                self._suspect(action.path)

    def _suspect(self, *paths: str) -> None:
        """Something was refused of them; no content."""
        self.doubtful.update(paths)
        self._refused_at.update(dict.fromkeys(paths, self._now))

    def _has(self, path: str, size: int) -> bool:
        """Whether it has that size in any case."""
        place = self.top / path
        return place.is_file() and place.stat().st_size == size

    def _doubt_below(self, path: str) -> None:
        found = [Path(at) / name for at, _, names in os.walk(self.top / path) for name in names]
        self._suspect(*(one.relative_to(self.top).as_posix() for one in found))

    def _lose(self, path: str, action: Action) -> None:
        self._suspect(path)
        if (self.top / path).exists() or (isinstance(action, Open) and action.how in WHOLE):
            self.lost[path] = action

    def _copy(self, action: Move) -> None:
        """Where nothing can be renamed it is copied, and then its mode is refused: both stay."""
        source, target = self.top / action.source, self.top / action.target
        if source.is_file() and target.parent.is_dir() and not target.is_dir():
            shutil.copyfile(source, target)
            # It was written anew.
            self.lost.pop(action.target, None)

    def _remove_but(self, path: str, left: Iterable[str]) -> None:
        """A removal broke off: what it has removed is gone."""
        kept = set(left)
        for at, _, names in os.walk(self.top / path):
            for name in names:
                one = Path(at) / name
                if one.relative_to(self.top).as_posix() not in kept:
                    one.unlink()
        if not kept:
            shutil.rmtree(self.top / path, ignore_errors=True)


def _touches(run: Run, outcomes: Sequence[Outcome]) -> set[int]:
    """Of the opens that were refused, those beside a change of the file's times: one each."""
    found: set[int] = set()
    last: dict[str, int | None] = {}
    for action, outcome in zip(run.actions, outcomes, strict=True):
        if isinstance(action, Touch):
            beside = last.pop(action.path, None)
            if beside is None:
                last[action.path] = None
            else:
                found.add(beside)
        elif isinstance(action, Open) and outcome.error and action.how not in WHOLE:
            if last.get(action.path, 0) is None:
                found.add(action.handle)
                del last[action.path]
            else:
                last[action.path] = action.handle
    return found


def _in(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


def _covered(path: str, named: Iterable[str]) -> bool:
    plain = path.removesuffix(LINK_SUFFIX)
    return any(one in {"", plain} or _in(path, one) for one in named)


def _size(data: bytes | None) -> str:
    return "nothing" if data is None else f"{len(data)} bytes"
