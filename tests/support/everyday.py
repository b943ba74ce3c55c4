"""Random sequences of everyday file operations, from a seed. Pure: no file is touched here."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.perform import (
    Close,
    Copy,
    Link,
    MakeFolders,
    Mode,
    Move,
    Open,
    Read,
    Remove,
    RemoveTree,
    Rename,
    Resize,
    Run,
    Symlink,
    Sync,
    Touch,
    Truncate,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.perform import Action

FOLDERS = ("", "", "", "logs", "sub", "sub/deeper", "runs of today", "\u00fcber", "checkpoint-5")
# Those that are refused by name, as with U+201B, are tested by themselves.
NAMES = (
    "model.safetensors",
    "train.log",
    "state.json",
    ".hidden",
    "two words.txt",
    "\u00e9.bin",
    "e\u0301.bin",
    "full\uff0fwidth.txt",
    "plus+percent%2Fhash#.txt",
    "back\\slash.txt",
    "back.tmp~",
    "n" * 200,
)
MIB = 1 << 20


@dataclass(frozen=True)
class Sequence:
    """Runs on the same prefix, one after the other."""

    seed: int
    runs: tuple[Run, ...]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}"]
        for number, run in enumerate(self.runs, 1):
            lines.append(f"  run {number}, {'inside' if run.inside else 'outside'}:")
            lines.extend(f"    {action!r}" for action in run.actions)
        return "\n".join(lines)


def sequence(seed: int) -> Sequence:
    """The sequence of a seed, always the same."""
    return _Author(seed).write()


class _Author:
    """Knows which files would be there if nothing was refused, so that most operations fit."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = random.Random(seed)
        self._files: set[str] = set()
        self._links: set[str] = set()
        self._actions: list[Action] = []
        self._handles = 0
        self._tags = seed * 1000
        self._open: dict[int, str] = {}

    def write(self) -> Sequence:
        runs = []
        for _ in range(self._random.choice((1, 1, 2, 3))):
            self._actions, self._open = [], {}
            for _ in range(self._random.randint(2, 7)):
                self._random.choices(*zip(*self._habits(), strict=True))[0]()
                if self._random.random() < 0.3:
                    self._close_one()
            while self._open and self._random.random() < 0.985:
                self._close_one()
            runs.append(Run(self._random.random() < 0.4, tuple(self._actions)))
        return Sequence(self._seed, tuple(runs))

    def _habits(self) -> list[tuple[Callable[[], None], int]]:
        always: list[tuple[Callable[[], None], int]] = [(self._create, 6), (self._checkpoint, 1)]
        if not self._files:
            return always
        return [
            *always,
            (self._overwrite, 3),
            (self._append, 4),
            (self._change, 3),
            (self._resize, 1),
            (self._replace, 5),
            (self._rename, 4),
            (self._move, 2),
            (self._copy, 2),
            (self._remove, 3),
            (self._remove_open, 3),
            (self._temporary, 2),
            (self._hold, 3),
            (self._two_descriptors, 2),
            (self._symlink, 2),
            (self._link, 1),
            (self._folder, 3),
            (self._attributes, 2),
        ]

    # Choices

    def _new(self) -> str:
        folder = self._random.choice(FOLDERS)
        return f"{folder}/{self._random.choice(NAMES)}".lstrip("/")

    def _old(self) -> str:
        return self._random.choice(sorted(self._files))

    def _data(self) -> tuple[int, int]:
        self._tags += 1
        sizes = (0, 1, 100, 4096, self._random.randint(1, 300_000))
        large = self._random.random() < 0.01
        return self._tags, 9 * MIB if large else self._random.choice(sizes)

    def _do(self, *actions: Action) -> None:
        self._actions.extend(actions)

    def _opened(self, path: str, how: str) -> int:
        self._handles += 1
        if "/" in path and how not in {"rb", "r+b"}:
            self._do(MakeFolders(path.rpartition("/")[0]))
        self._do(Open(self._handles, path, how))
        if how != "rb":
            self._files.add(path)
        self._open[self._handles] = path
        return self._handles

    def _close(self, handle: int) -> None:
        self._do(Close(handle))
        del self._open[handle]

    def _close_one(self) -> None:
        if self._open:
            self._close(self._random.choice(sorted(self._open)))

    def _whole(self, path: str, how: str = "wb") -> None:
        handle = self._opened(path, how)
        for _ in range(self._random.choice((1, 1, 2, 3))):
            self._do(Write(handle, self._data()))
        if self._random.random() < 0.2:
            self._do(Sync(handle))
        if self._random.random() < 0.9:
            self._close(handle)

    def _gone(self, path: str) -> None:
        self._files.discard(path)
        self._links.discard(path)

    # Habits

    def _create(self) -> None:
        path = self._new()
        if path not in self._links:
            self._whole(path, self._random.choice(("wb", "wb", "xb", "w+b")))

    def _overwrite(self) -> None:
        self._whole(self._old())

    def _append(self) -> None:
        self._whole(self._old(), "ab")

    def _change(self) -> None:
        handle = self._opened(self._old(), "r+b")
        at = self._random.choice((0, 1, 50, 5000))
        self._do(Write(handle, self._data(), at))
        if self._random.random() < 0.3:
            self._do(Truncate(handle, self._random.choice((0, 10, 4096))))
        self._close(handle)

    def _resize(self) -> None:
        self._do(Resize(self._old(), self._random.choice((0, 1, 4096, 100_000))))

    def _replace(self) -> None:
        path = self._old()
        temporary = f"{path.rpartition('/')[0]}/.tmp-{self._tags}".lstrip("/")
        self._whole(temporary)
        self._rename_to(temporary, path)

    def _rename(self) -> None:
        self._rename_to(self._old(), self._random.choice((self._new(), self._old())))

    def _rename_to(self, source: str, target: str) -> None:
        if source == target:
            return
        if "/" in target:
            self._do(MakeFolders(target.rpartition("/")[0]))
        self._do(Rename(source, target))
        self._gone(source)
        self._files.add(target)

    def _move(self) -> None:
        source, target = self._old(), self._new()
        if source != target:
            self._do(MakeFolders(target.rpartition("/")[0] or "."), Move(source, target))
            self._gone(source)
            self._files.add(target)

    def _copy(self) -> None:
        source, target = self._old(), self._new()
        if source != target:
            self._do(MakeFolders(target.rpartition("/")[0] or "."), Copy(source, target))
            self._files.add(target)

    def _remove(self) -> None:
        path = self._old()
        self._do(Remove(path))
        self._gone(path)

    def _remove_open(self) -> None:
        """Removed while it is open for reading, for appending or for changes, and written on."""
        path, how = self._old(), self._random.choice(("rb", "ab", "r+b"))
        handle = self._opened(path, how)
        if how != "rb" and self._random.random() < 0.5:
            self._do(Write(handle, self._data()))
        self._do(Remove(path))
        self._gone(path)
        if how != "rb" and self._random.random() < 0.7:
            self._do(Write(handle, self._data()))
        if self._random.random() < 0.4:
            self._whole(path)
        self._close(handle)

    def _temporary(self) -> None:
        """As tempfile.TemporaryFile does."""
        path = self._new()
        if path in self._files:
            return
        handle = self._opened(path, "w+b")
        self._do(Remove(path), Write(handle, self._data()))
        self._gone(path)
        if self._random.random() < 0.8:
            self._close(handle)

    def _hold(self) -> None:
        """A reader holds a file while another one is put in its place."""
        path = self._old()
        handle = self._opened(path, "rb")
        self._random.choice((self._replace, self._overwrite, self._rename, self._remove))()
        if self._random.random() < 0.8:
            self._close(handle)

    def _two_descriptors(self) -> None:
        path = self._old()
        first = self._opened(path, self._random.choice(("ab", "r+b", "wb")))
        second = self._opened(path, self._random.choice(("ab", "r+b", "rb")))
        self._do(Write(first, self._data()))
        if self._actions[-2] != Open(second, path, "rb"):
            self._do(Write(second, self._data()))
        for handle in self._random.sample((first, second), 2):
            self._close(handle)

    def _symlink(self) -> None:
        """A link to the newest, and another one in its place."""
        plain = sorted(path for path in self._files if "\\" not in path)
        if not plain:
            # rclone turns the backslash in what a link leads to into a slash.
            return
        if self._random.random() < 0.5 and self._links:
            path = self._random.choice(sorted(self._links))
            self._do(
                Symlink(self._random.choice(plain), f"{path}.new"), Rename(f"{path}.new", path)
            )
        else:
            path = self._random.choice(("latest", "best.bin"))
            self._do(Symlink(self._random.choice(plain), path))
        self._links.add(path)

    def _link(self) -> None:
        source, target = self._old(), self._new()
        self._do(MakeFolders(target.rpartition("/")[0] or "."), Link(source, target))
        self._files.add(target)

    def _folder(self) -> None:
        folders = sorted({path.rpartition("/")[0] for path in self._files} - {""})
        if not folders:
            return
        folder = self._random.choice(folders)
        below = {path for path in self._files if path.startswith(f"{folder}/")}
        for path in below:
            self._gone(path)
        if self._random.random() < 0.5:
            self._do(RemoveTree(folder))
            return
        target = self._random.choice(("best", "kept", f"{folder}-old"))
        self._do(Rename(folder, target))
        self._files |= {target + path[len(folder) :] for path in below}

    def _attributes(self) -> None:
        path = self._old()
        self._do(self._random.choice((Mode(path, 0o600), Touch(path), Read(path))))

    def _checkpoint(self) -> None:
        step = self._random.choice((5, 10))
        for name in ("model.safetensors", "optimizer.pt"):
            handle = self._opened(f"checkpoint-{step}/{name}", "wb")
            self._do(Write(handle, self._data()))
            self._close(handle)
        state = json.dumps({"global_step": step, "of": self._tags}).encode()
        handle = self._opened(f"checkpoint-{step}/trainer_state.json", "wb")
        self._do(Write(handle, state))
        self._close(handle)
