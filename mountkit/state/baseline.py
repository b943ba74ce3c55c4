"""What a directory held before a run began to save into it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from mountkit.errors import ConfigurationError
from mountkit.state import json_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BASELINE_NAME = "baseline.json"
# Of a directory's device or inode: whatever the run finds that goes on.
ANY = -1

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class CutOff:
    """A file that an earlier run was writing when it was killed, as the next run found it.

    ``at`` is when that write began, in seconds since the epoch, which tells it from a later one.
    ``stamp`` is that of the file, or zeros where there was none. ``told`` says that a run has named
    it as unproven.
    """

    at: float
    stamp: Stamp
    told: bool

    @property
    def inode(self) -> int:
        """0 where there was no file."""
        return self.stamp[2]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The files that were there, each with what changes whenever it is written.

    ``at`` is when that was, in seconds since the epoch. ``ahead`` is by how many seconds the file
    system's clock was ahead of this machine's as the run began that saves there now. ``top`` is
    what the directory can be told by, its device and its inode; each is ``ANY`` until the run that
    goes on has seen it. ``run`` is when that run began. ``lost`` says how the directory was lost
    since; "" if it was not. ``cut_off`` has the files of saves in which earlier runs were killed.
    """

    at: float
    ahead: float
    files: Mapping[str, Stamp]
    top: tuple[int, int] = (0, 0)
    lost: str = ""
    run: float = 0.0
    cut_off: Mapping[str, CutOff] = field(default_factory=dict)

    def is_of(self, top: tuple[int, int]) -> bool:
        """Whether it tells of the directory with that device and inode."""
        return all(known in {ANY, seen} for known, seen in zip(self.top, top, strict=True))


def write(directory: Path, baseline: Baseline) -> None:
    """Note it in the private directory of a mount.

    Raises OSError.
    """
    content = {
        "at": baseline.at,
        "ahead": baseline.ahead,
        "top": list(baseline.top),
        "lost": baseline.lost,
        "run": baseline.run,
        "cut_off": {
            path: [each.at, *each.stamp, each.told] for path, each in baseline.cut_off.items()
        },
        "files": {path: list(stamp) for path, stamp in baseline.files.items()},
    }
    json_file.replace(directory / BASELINE_NAME, content)


def read(directory: Path) -> Baseline | None:
    """What was noted; None if nothing was.

    Raises ConfigurationError if it cannot be read.
    """
    try:
        seen = (directory / BASELINE_NAME).stat()
    except FileNotFoundError:
        return None
    return _read(directory / BASELINE_NAME, (seen.st_ino, seen.st_mtime_ns))


def note_lost(directory: Path, reason: str) -> None:
    """Note that nobody knows any more what was written; the first reason stays."""
    known = read(directory) or Baseline(time.time(), 0.0, {})
    if not known.lost:
        write(directory, replace(known, lost=reason))


def begin_anew(directory: Path) -> None:
    """That another run begins; what an earlier one wrote is still to be proven.

    A volume has another device on each machine, and with some file systems at each mount. That it
    was lost nobody has said yet who was killed before.
    """
    known = read(directory)
    if known is not None:
        write(directory, replace(known, top=(ANY, known.top[1]), run=ANY))


def forget_lost(directory: Path) -> None:
    """That nobody knows all that was written has been said."""
    known = read(directory)
    if known is not None and known.lost:
        write(directory, replace(known, lost=""))


def begin_elsewhere(directory: Path) -> None:
    """That it was lost has been said at the start of a run: all that is there is to be proven."""
    known = read(directory) or Baseline(time.time(), 0.0, {})
    write(directory, replace(known, lost="", top=(ANY, ANY), files={}))


@lru_cache(maxsize=8)
def _read(path: Path, version: tuple[int, int]) -> Baseline | None:  # noqa: ARG001
    """One reading of each version: a long-lived run asks again and again."""
    content = json_file.load(path)
    if content is None:
        return None
    try:
        files = {name: _stamp(stamp) for name, stamp in content["files"].items()}
        device, inode = map(int, content["top"])
        cut_off = {name: _cut_off(words) for name, words in content.get("cut_off", {}).items()}
        at, ahead, run = content["at"], content["ahead"], content.get("run", 0.0)
        return Baseline(at, ahead, files, (device, inode), content["lost"], run, cut_off)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}.",
            hint=f"It tells what was there before a run; to do without: rm {os.fspath(path)}",
        ) from error


def _cut_off(words: list[float]) -> CutOff:
    at, *stamp, told = words
    return CutOff(float(at), _stamp(list(map(int, stamp))), bool(told))


def _stamp(words: list[int]) -> Stamp:
    size, changed, inode = words
    return int(size), int(changed), int(inode)
