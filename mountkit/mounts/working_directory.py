"""Whose working directory lies at the target, or below it, has to step into the mount.

A mount covers a path. Whoever stood there before stays on the bare directory, and all that he
writes by relative paths goes to the local disk.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.errors import ConfigurationError, MountUnavailableError
from mountkit.linux import mount_io, mount_table

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER_SECONDS = 30.0


def place_in(target: str) -> str | None:
    """Where the working directory lies, relative to ``target``; None if it lies elsewhere.

    By its path alone, which the kernel gives without links: what is mounted there may hang.
    """
    try:
        return Path.cwd().relative_to(target).as_posix()
    except (FileNotFoundError, ValueError):
        return None


def make_place(target: str, place: str | None) -> str | None:
    """The directory in the mount to step into, made if it is not there yet; None if none is.

    Raises MountUnavailableError if it cannot be made.
    """
    if place is None:
        return None
    inside = str(Path(target) / place)
    problem = "" if place == "." else mount_io.make_folder(inside, FOLDER_SECONDS)
    if problem:
        raise MountUnavailableError(
            f"The working directory {inside} lies below the mount, and cannot be made in it: "
            f"{problem}. What is written there by relative paths would never reach the bucket.",
            hint=f"Start from a directory outside of {target}, or from {target} itself.",
        )
    return inside


@contextlib.contextmanager
def stepped_into(target: str, place: str | None) -> Iterator[None]:
    """While this lasts, the working directory is at ``place`` in the mount, if there is a place.

    At the end it is the one from before, so that it does not keep the mount busy; not if the
    program has gone elsewhere meanwhile.

    Raises MountUnavailableError if the mount cannot be stepped into.
    """
    inside = make_place(target, place)
    if inside is None:
        yield
        return
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            os.chdir(inside)
        except OSError as error:
            raise not_entered(inside, error) from error
        try:
            yield
        finally:
            if place_in(target) is not None:
                os.fchdir(before)
    finally:
        os.close(before)


class Stance:
    """Where this process stands in a mount: there it steps back once that is another one.

    The working directory of a process stays the one in the mount that died, in which no relative
    path leads anywhere.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._place = place_in(target)
        self._device = Path().stat().st_dev if self._place is not None else 0
        if self._place is not None and self._device == Path(target).parent.stat().st_dev:
            # On the directory below the mount, by an older working directory.
            self._place = None

    def step_back(self) -> None:
        """Into the mount that is there now, where this process stands in the one before.

        Raises MountUnavailableError if it cannot be stepped into.
        """
        if self._place is None:
            return
        try:
            here = Path().stat().st_dev
        except OSError:
            here = self._device
        # The kernel may answer for a dead mount from memory; each mount has a device of its own.
        if here != self._device:
            return
        inside = str(Path(self._target) / self._place)
        try:
            there = Path(self._target).stat().st_dev
            if there != here:
                os.chdir(inside)
        except OSError as error:
            raise not_entered(inside, error) from error
        self._device = there


def not_entered(inside: str, error: OSError) -> MountUnavailableError:
    """The error for a place in the mount that cannot become the working directory."""
    return MountUnavailableError(
        f"The working directory {inside} cannot be stepped into: {error.strerror}.",
        hint="Start from a directory outside of the mount.",
    )


def refuse_below(target: str, path: str) -> None:
    """Refuse a relative ``path`` of a process that stands on the directory below the mount.

    Raises ConfigurationError if it does: all that it writes there would miss the mount.
    """
    entry = mount_table.at(target)
    if entry is None or not entry.fstype.startswith("fuse"):
        return
    if Path(path).is_absolute() or place_in(target) is None:
        return
    device = Path().stat().st_dev
    if (os.major(device), os.minor(device)) != (0, entry.minor):
        raise ConfigurationError(
            f"{path!r} is relative, and the working directory {Path.cwd()} is the one below the "
            "mount: nothing that is written there reaches the bucket.",
            hint='Step into the mount, and start again: cd "$PWD"',
        )


def warning(target: str) -> str:
    """What to tell somebody whose shell stands at the target of a mount that he made; or ""."""
    if place_in(target) is None or mount_table.at(target) is None:
        return ""
    return (
        "this shell stands on the directory below the mount, and what it writes by relative paths "
        'does not reach the bucket; step into the mount first: cd "$PWD"'
    )
