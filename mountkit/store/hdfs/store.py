"""The file system, asked directly: what it holds, and what it attests of it. Never through a mount.

A data node keeps a CRC32C of every 512 bytes of a block. A checksum of those is what a file is
proven by; it is computed from what is stored beside the bytes, and only a reader compares the two.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from mountkit.errors import MountkitError, MountUnavailableError, VerificationError
from mountkit.names import PROBE_NAME
from mountkit.store import access_check
from mountkit.store.base import (
    CHUNK_BYTES,
    SMALL_OBJECT_BYTES,
    WORKERS,
    Attestation,
    ObjectChangedError,
    ObjectInfo,
    ObjectMissingError,
    StoreFacts,
    UnsupportedConditionError,
    Version,
)
from mountkit.store.hdfs import errors, file_checksum
from mountkit.store.hdfs.client import (
    COLON,
    STORED_COLON,
    Connection,
)
from mountkit.store.hdfs.errors import HdfsError
from mountkit.timing import at_once

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


MISSING = "FileNotFoundException"
EXISTS = "FileAlreadyExistsException"
NOT_EMPTY = "PathIsNotEmptyDirectoryException"
# Of a file that is in its place only once it is whole.
TEMPORARY = f"{PROBE_NAME}new-"
READ_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Status:
    """What the name node says of a file or a directory."""

    name: str
    directory: bool
    size: int
    tag: str
    modified: datetime

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> _Status:
        """Read a FileStatus. A file that is written anew is another one, or has another time."""
        size, block, at = (int(told[key]) for key in ("length", "blockSize", "modificationTime"))
        return cls(
            str(told["pathSuffix"]).replace(STORED_COLON, COLON),
            told["type"] == "DIRECTORY",
            size,
            # The size of its blocks is what its checksum is computed with.
            f"{told.get('fileId', 0)}-{at}-{size}-{block}",
            datetime.fromtimestamp(at / 1000, UTC),
        )


class HdfsStore(Connection):
    """A place in HDFS. May be shared by threads.

    Every method raises what ``translated`` makes of a failure, and TimeUpError once the
    ``deadline`` has passed.
    """

    rights: ClassVar[Mapping[str, str]] = errors.RIGHTS

    def list(self, prefix: str = "", *, markers: bool = False) -> Iterator[ObjectInfo]:  # noqa: ARG002
        """All files below a directory, sorted by path; one request a directory.

        HDFS has directories, and needs no objects to stand for them.
        """
        top = prefix.strip("/")
        for entry in sorted(self._entries(top), key=_order):
            path = f"{top}/{entry.name}" if top else entry.name
            if entry.directory:
                yield from self.list(path)
            else:
                yield ObjectInfo(path, entry.size, entry.tag, entry.modified)

    def directories(self, prefix: str = "") -> tuple[str, ...]:
        """The names of the directories directly below a directory, sorted."""
        found = self._entries(prefix.strip("/"))
        return tuple(sorted(entry.name for entry in found if entry.directory))

    def _entries(self, directory: str) -> tuple[_Status, ...]:
        """What is in a directory; nothing if it is not there, or is a file."""
        with self.translated("list", directory):
            try:
                told = self.stream(directory, "LISTSTATUS").json()
            except HdfsError as error:
                if error.name == MISSING or _below_a_file(error):
                    return ()
                raise
        found = (_Status.of(each) for each in told["FileStatuses"]["FileStatus"])
        return tuple(entry for entry in found if entry.name)

    def _status(self, path: str) -> tuple[_Status | None, datetime | None]:
        """A file, or None if there is none, and when that was."""
        with self.translated("attest", path):
            try:
                answer = self.stream(path, "GETFILESTATUS")
            except HdfsError as error:
                if error.name == MISSING or _below_a_file(error):
                    return None, error.date
                raise
            found = _Status.of(answer.json()["FileStatus"])
        return None if found.directory else found, answer.date

    def stat(self, path: str) -> Attestation | None:
        """What HDFS says about a file, or None if it is not there. Three short requests."""
        found, _ = self._status(path)
        if found is None:
            return None
        with self.translated("attest", path):
            try:
                told = self.stream(path, "GETFILECHECKSUM").json()
            except HdfsError as error:
                if error.name == MISSING:
                    return None
                if not errors.of_the_file(error):
                    raise
                # Its last block is being written, or this HDFS computes none: the bytes decide.
                told = {}
        checksum = file_checksum.read(told.get("FileChecksum") or {})
        return Attestation(
            size=found.size,
            tag=found.tag,
            checksums=(checksum,) if checksum else (),
            modified=found.modified,
        )

    def part_sizes(self, path: str, attestation: Attestation) -> tuple[int, ...] | None:  # noqa: ARG002
        """The sizes of a file's blocks, of which all but the last are as big as it says."""
        block = int(attestation.tag.rpartition("-")[2])
        whole, rest = divmod(attestation.size, block) if block else (0, attestation.size)
        return (block,) * whole + ((rest,) if rest or not whole else ())

    def chunks(self, path: str, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The bytes of a file in order, one request a chunk. Data nodes compare their CRCs.

        Raises
        ------
        ObjectMissingError
            If the file is not there.
        ObjectChangedError
            If it was replaced meanwhile.
        """
        found, _ = self._status(path)
        if found is None:
            raise ObjectMissingError(
                f"{self.url(path)} is not in HDFS.",
                hint=f"See what is: hdfs dfs -ls -R {self.source.url}",
            )
        for start in range(0, found.size, chunk_bytes):
            yield self._range(path, found, start, min(chunk_bytes, found.size - start))
        if self._status(path)[0] != found:
            raise self._changed(path)

    def _range(self, path: str, of: _Status, start: int, length: int) -> bytes:
        with self.translated("read", path):
            try:
                data = self.stream(path, "OPEN", offset=start, length=length).body
            except HdfsError as error:
                # An offset past the end of what is there now.
                if error.name != MISSING and self._status(path)[0] != of:
                    raise self._changed(path) from error
                raise
        if len(data) == length:
            return data
        if self._status(path)[0] != of:
            raise self._changed(path)
        raise MountUnavailableError(
            f"A data node sent {len(data)} of {length} bytes when {self.url(path)} was read.",
            hint=f"See what is wrong with its blocks: hdfs fsck '{self.place(path)}' -blocks",
        )

    def _changed(self, path: str) -> ObjectChangedError:
        return ObjectChangedError(
            f"{self.url(path)} was replaced while it was being read.",
            hint=f"See who else writes there, then: mountkit verify {self.source.url}",
        )

    def read(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> Version:
        """A small file as it is now, or that it is not there, by the name node's own clock.

        Raises VerificationError if it has more than ``limit`` bytes.
        """
        attempt = 1
        while True:
            found, date = self._status(path)
            if found is None:
                return Version(None, "", None, date)
            if found.size > limit:
                raise VerificationError(
                    f"{self.url(path)} is bigger than {limit} bytes, which is too big for what it "
                    "is.",
                    hint=f"See what it is: hdfs dfs -head {self.url(path)}",
                )
            try:
                data = self._range(path, found, 0, found.size) if found.size else b""
                if self._status(path)[0] != found:
                    raise self._changed(path)
            except VerificationError:
                # It was replaced or deleted since it was looked up.
                if attempt == READ_ATTEMPTS:
                    raise
                attempt += 1
            else:
                return Version(data, found.tag, found.modified, date)

    def put(self, path: str, data: bytes) -> None:
        """Write a small file beside its place, and rename it there."""
        self._place(path, data, "OVERWRITE")

    def put_if(self, path: str, data: bytes, *, tag: str | None) -> Version | None:
        """Write a small file only where there is none. HDFS compares nothing but that.

        Raises UnsupportedConditionError for a tag.
        """
        if tag is not None:
            raise UnsupportedConditionError(
                f"HDFS does not replace {self.url(path)} under a condition.",
                hint=f"See what it enforces: mountkit doctor {self.source.url}",
            )
        try:
            self._place(path, data, "NONE")
        except _ExistsError:
            return None
        found, date = self._status(path)
        if found is None:
            # Somebody has removed it since.
            return None
        return Version(data, found.tag, found.modified, date)

    def _place(self, path: str, data: bytes, how: str) -> None:
        directory = path.rpartition("/")[0]
        name = f"{TEMPORARY}{secrets.token_hex(8)}"
        temporary = f"{directory}/{name}" if directory else name
        with self.translated("write", path):
            self.ask("PUT", temporary, "CREATE", data, overwrite="true")
            try:
                self.ask(
                    "PUT",
                    temporary,
                    "RENAME",
                    destination=self.place(path),
                    renameoptions=how,
                )
            except HdfsError as error:
                self._discard(temporary)
                if error.name == EXISTS:
                    raise _ExistsError from error
                raise

    def _discard(self, temporary: str) -> None:
        # What is left of it has a name that no listing shows as a file of a checkpoint.
        with suppress(MountkitError):
            self.delete([temporary])

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files, and the directories that are empty then; one not there is no error.

        Raises PermissionDeniedError if the name node refuses one, which is named.
        """
        wanted = tuple(path.rstrip("/") for path in paths)
        with at_once(WORKERS, "delete") as pool:
            gone = [
                path
                for path, done in zip(wanted, pool.map(self._delete, wanted), strict=True)
                if done
            ]
        above = {directory for path in gone for directory in _above(path)}
        # The deepest first: each may be what kept the one above it.
        for directory in sorted(above, key=lambda each: each.count("/"), reverse=True):
            self._delete_empty(directory)

    def _delete(self, path: str) -> bool:
        found, _ = self._status(path)
        if found is None:
            return False
        with self.translated("delete", path):
            self.ask("DELETE", path, "DELETE", recursive="false")
        return True

    def _delete_empty(self, directory: str) -> None:
        with self.translated("delete", directory):
            try:
                self.ask("DELETE", directory, "DELETE", recursive="false")
            except HdfsError as error:
                if error.name != NOT_EMPTY:
                    raise

    def abort_uploads(self) -> None:
        """HDFS keeps nothing of a file but the file: what broke off is listed."""

    def check(self, *, write: bool = True, seconds: float = 6.0) -> StoreFacts:
        """Try everything a save will need, and say what is wrong, within ``seconds``."""
        facts = access_check.check(self, write=write, seconds=seconds)
        access_check.hurried(self, seconds).await_name_node()
        return facts


class _ExistsError(Exception):
    """There is a file of that name already."""


def _above(path: str) -> list[str]:
    """The directories that a path lies in, below the source."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _order(entry: _Status) -> str:
    """By the path of what is in it, as stores without directories sort."""
    return f"{entry.name}/" if entry.directory else entry.name


def _below_a_file(error: HdfsError) -> bool:
    """Whether a path leads through a file, below which nothing is."""
    return error.name == "ParentNotDirectoryException" or (
        error.name == "AccessControlException" and "is not a directory" in error.message
    )
