"""A directory of this machine as a store, asked past the memory in which the kernel keeps files.

What was written to a disk, and what is read of it, is in memory first: that a file can be read
again says nothing of what outlives the machine. So before a file is read for a proof, it is synced,
and what the kernel has of it is dropped: the bytes come from the disk, or from the server of NFS or
Lustre. There is no checksum to ask for, and no write under a condition.
"""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    NotDurableError,
    PermissionDeniedError,
)
from mountkit.formatting import printable
from mountkit.linux import mount_table
from mountkit.store.base import CHUNK_BYTES, ObjectChangedError, ObjectMissingError, StoreFacts
from mountkit.store.file import disk, settle
from mountkit.store.remote.configuration import Remote
from mountkit.store.remote.store import RcloneStore

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from mountkit.store.file.settle import Settled
    from mountkit.store.remote.rcd import CallError

# Some file systems, Lustre among them, keep whole seconds. rclone reckons with nanoseconds, and takes
# each file that it has just written for one that was damaged.
CONFIGURATION: Mapping[str, str] = MappingProxyType({"type": "local", "no_set_modtime": "true"})
# A disk may have much of a file still to write. It takes no less than this in a second.
SLOWEST_BYTES = 100_000_000
# No name that a remote of the user's could have.
REMOTE = Remote("file:", {"": CONFIGURATION})
# What a file system says, behind the name of the file; the name may have any word in it.
REFUSED = re.compile(
    r"(?:^|: )(?:permission denied|operation not permitted|read-only file system)$", re.IGNORECASE
)
FULL = re.compile(r"(?:^|: )(?:no space left on device|disk quota exceeded)$", re.IGNORECASE)
# Some seconds, for a file system that denies access once may only be taking in a change.
DENIED_SECONDS = 3.0


def refused_in(text: str) -> float | None:
    """For how many seconds a refusal that a daemon quotes may pass; None if it quotes none."""
    return DENIED_SECONDS if REFUSED.search(text.strip()) else None


class FileStore(RcloneStore):
    """A directory; see :class:`mountkit.store.base.Store`. May be shared by threads."""

    @property
    def remote(self) -> Remote:
        """What every one of them is for rclone."""
        return REMOTE

    @property
    def fs(self) -> str:
        """The top of the machine, in rclone's words."""
        return f"{super().fs}/"

    def chunks(self, path: str, *, chunk_bytes: int = CHUNK_BYTES) -> Generator[bytes, None, None]:
        """The bytes of a file as they are on the disk; see ``RcloneStore.chunks``.

        Raises
        ------
        MountUnavailableError
            If the disk does not take what was written, does not answer, or is not mounted.
        ObjectChangedError
            If the file was written again meanwhile: then nobody knows whether what was read of it
            is on the disk.
        """
        before = self._settle(path, "read")
        yield from super().chunks(path, chunk_bytes=chunk_bytes)
        if self._settle(path, "read").stamp != before.stamp:
            raise ObjectChangedError(
                f"{printable(self.url(path))} was replaced while it was being read.",
                hint=f"See who else writes there, then: mountkit verify {self._quoted_url}",
            )

    def put(self, path: str, data: bytes) -> None:
        """Write a small file, so that it is on the disk; see ``RcloneStore.put``."""
        # rclone makes the directories that are missing, also where no disk is mounted.
        self._still_mounted(self._answered(self._look(), "write", ""))
        super().put(path, data)
        if not self._settle(path, "write").stamp:
            raise NotDurableError(
                f"{printable(self.url(path))} is not there, although it was written.",
                hint=f"See what is mounted there: {self._findmnt}",
            )

    def check(self, *, write: bool = True, seconds: float = 9.0) -> StoreFacts:
        """Try everything a save will need, and say what is wrong, within ``seconds``.

        Raises ConfigurationError if there is no directory that the source lies in, or if it lies on
        no disk that outlives the job. See ``access_check.check`` for the rest.
        """
        began = time.monotonic()
        parent = self.source.directory.rpartition("/")[0] or "/"
        found = settle.look(parent, seconds, self.silent(seconds, "list", ""), self.deadline.check)
        if found.failed:
            raise self._error(found.failed, "list", "")
        if not found.directory:
            raise ConfigurationError(
                f"There is no directory {printable(parent)} on this machine, in which "
                f"{printable(self.source.url)} would be made.",
                hint="Mount its file system, correct the path, or make it: "
                f"mkdir -p {shlex.quote(parent)}",
            )
        found = self._answered(self._look(), "list", "")
        if why := disk.refusal(found.real, mount_table.read()):
            raise self._no_disk(ConfigurationError, why)
        left = max(1.0, seconds - (time.monotonic() - began))
        return replace(
            super().check(write=write, seconds=left), credentials="the rights of this user"
        )

    def _look(self) -> Settled:
        seconds = self._seconds()
        silent = self.silent(seconds, "list", "")
        return settle.look(self.source.directory, seconds, silent, self.deadline.check)

    def _settle(self, path: str, doing: str) -> Settled:
        self.deadline.check()
        there = self._stat(path)
        size = 0 if there is None else there.size
        seconds = self.deadline.cut(self._patience + size / SLOWEST_BYTES)
        silent = self.silent(seconds, doing, path)
        found = settle.settle(
            self.source.directory, self._place(path), seconds, silent, self.deadline.check
        )
        self._still_mounted(self._answered(found, doing, path))
        return found

    def _answered(self, found: Settled, doing: str, path: str) -> Settled:
        if found.failed:
            raise self._error(found.failed, doing, path)
        return found

    def _still_mounted(self, found: Settled) -> None:
        """It was when it was checked, and is waited for."""
        if why := disk.refusal(found.real, mount_table.read()):
            raise self._no_disk(MountUnavailableError, why)

    def _no_disk(self, kind: type[MountkitError], why: str) -> MountkitError:
        return kind(
            f"Nothing can be proven in {printable(self.source.directory)}: {printable(why)}.",
            hint=f"See what is mounted: {self._findmnt}. Then mount its disk, or name a place on "
            "one.",
        )

    def _place(self, path: str) -> str:
        return f"/{self.source.key(path)}"

    @property
    def _quoted_url(self) -> str:
        return shlex.quote(self.source.url)

    @property
    def _findmnt(self) -> str:
        return f"findmnt --target {shlex.quote(self.source.directory)}"

    def silent(self, seconds: float, doing: str, path: str) -> MountUnavailableError:
        """The file system said nothing in that time."""
        return MountUnavailableError(
            f"The file system gave no answer in {seconds:.0f} s when asked to {doing} "
            f"{printable(self._place(path))}.",
            hint=f"See whether it hangs: timeout 10 ls -ld {shlex.quote(self.source.directory)}",
        )

    def peek(self, path: str) -> str:
        """What a person types to see the first bytes of a file."""
        return f"head -c 200 {shlex.quote(self._place(path))}"

    def _translated(self, error: CallError, remote: Remote, doing: str, path: str) -> MountkitError:
        found = super()._translated(error, remote, doing, path)
        missing = isinstance(found, ObjectMissingError)
        return found if missing else self._error(str(error), doing, path)

    def _error(self, said: str, doing: str, path: str) -> MountkitError:
        where, top = printable(self._place(path)), shlex.quote(self.source.directory)
        said = printable(" ".join(said.split()))
        if REFUSED.search(said):
            denied = PermissionDeniedError(
                f"This user may not {doing} {where}: {said}.",
                hint=f"See whose it is, and who you are: ls -ld {top}; id",
            )
            denied.may_pass = DENIED_SECONDS
            return denied
        if FULL.search(said):
            return MountUnavailableError(
                f"The disk has no room to {doing} {where}: {said}.",
                hint=f"Make room: df -h {top}. Then: mountkit doctor {self._quoted_url}",
            )
        return MountUnavailableError(
            f"The disk cannot {doing} {where}: {said}.",
            hint=f"See what is mounted there: {self._findmnt}",
        )
