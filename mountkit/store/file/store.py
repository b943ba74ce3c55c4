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
from mountkit.names import LEASE_NAME
from mountkit.store.base import (
    CHUNK_BYTES,
    SMALL_OBJECT_BYTES,
    ObjectChangedError,
    ObjectInfo,
    ObjectMissingError,
    StoreFacts,
)
from mountkit.store.file import disk, settle
from mountkit.store.remote.configuration import Remote
from mountkit.store.remote.store import RcloneStore

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from mountkit.store.file.settle import Settled
    from mountkit.store.remote.rcd import CallError

# Some file systems, such as sshfs, keep whole seconds. rclone reckons with nanoseconds, and takes
# each file that it has just written there for one that was damaged.
CONFIGURATION: Mapping[str, str] = MappingProxyType({"type": "local", "no_set_modtime": "true"})
# A disk may have much of a file still to write. It takes no less than this in a second.
SLOWEST_BYTES = 50_000_000
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
        self._see_that_it_is_mounted("write")
        super().put(path, data)
        if path.rpartition("/")[2] == LEASE_NAME:
            # Nobody needs it after this machine, and a busy disk must not hold it up.
            return
        try:
            arrived = b"".join(self.chunks(path)) == data
        except ObjectMissingError:
            arrived = False
        if not arrived:
            raise NotDurableError(
                f"{printable(self.url(path))} is not on the disk as it was written.",
                hint=f"See what is mounted there: {self._findmnt}",
            )

    def get(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> bytes | None:
        """The bytes of a small file, as the kernel has them; see ``RcloneStore.get``."""
        data = super().get(path, limit=limit)
        if data is None:
            self._see_that_it_is_mounted("read")
        return data

    def _listed(self, prefix: str, **how: bool) -> Iterator[ObjectInfo]:
        found = list(super()._listed(prefix, **how))
        if not found:
            # Where its disk is not mounted there is nothing, either.
            self._see_that_it_is_mounted("list")
        return iter(found)

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
        found = self._look(self._left(began, seconds), "list")
        if why := disk.refusal(found.mount, mount_table.read()):
            raise self._no_disk(ConfigurationError, why)
        left = self._left(began, seconds)
        return replace(
            super().check(write=write, seconds=left), credentials="the rights of this user"
        )

    def _left(self, began: float, seconds: float) -> float:
        return max(1.0, seconds - (time.monotonic() - began))

    def _look(self, seconds: float, doing: str) -> Settled:
        silent = self.silent(seconds, doing, "")
        found = settle.look(self.source.directory, seconds, silent, self.deadline.check)
        return self._answered(found, doing, "")

    def _see_that_it_is_mounted(self, doing: str) -> None:
        self._still_mounted(self._look(self._seconds(), doing))

    def _settle(self, path: str, doing: str) -> Settled:
        self.deadline.check()
        there = self._stat(path)
        size = 0 if there is None else there.size
        seconds = self.deadline.cut(self.patience + size / SLOWEST_BYTES)
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
        if why := disk.refusal(found.mount, mount_table.read(), writable=found.writable):
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
