"""A place on a remote of rclone's, asked directly: what it holds, and what it attests of it.

Most remotes attest nothing of which it is known who computed it: their files are read back, past
every mount and every cache. There is no write under a condition, and no clock but that of the
files.
"""

from __future__ import annotations

import base64
import re
import secrets
from contextlib import closing
from datetime import datetime
from http.client import PARTIAL_CONTENT, IncompleteRead
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mountkit.errors import (
    MountkitError,
    MountUnavailableError,
    NotDurableError,
    VerificationError,
)
from mountkit.names import PROBE_NAME
from mountkit.store import rclone_names
from mountkit.store.base import (
    CHUNK_BYTES,
    SMALL_OBJECT_BYTES,
    WORKERS,
    Attestation,
    Checksum,
    ObjectChangedError,
    ObjectInfo,
    ObjectMissingError,
    StoreFacts,
    UnsupportedConditionError,
    Version,
)
from mountkit.store.remote.client import Client
from mountkit.timing import at_once

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping
    from http.client import HTTPResponse


#: By the type of a remote, the hashes that its *server* computes of the bytes that it has: these
#: alone are believed. Others are the client's word, or nobody knows whose.
ATTESTED: Mapping[str, tuple[str, ...]] = MappingProxyType({"sftp": ("sha1",)})
READ_TRIES = 4
#: What an upload of rclone's that was killed leaves, and a draft of ``put``.
PARTIAL = re.compile(rf"(?:^|/){re.escape(PROBE_NAME)}[0-9a-f]+$|\.[0-9a-f]{{8}}\.partial$")


class RcloneStore(Client):
    """A place on a remote; see :class:`mountkit.store.base.Store`. May be shared by threads.

    An object has no tag: no remote says in general that a file was written again.
    """

    def list(self, prefix: str = "", *, markers: bool = False) -> Iterator[ObjectInfo]:
        """All files below ``prefix``, sorted by path; with ``markers`` also the directories.

        One request, of rclone; of the store one for each directory, or less.
        """
        found = self._listed(prefix, recurse=True, filesOnly=not markers)
        yield from sorted(found, key=lambda info: info.path)

    def _listed(self, prefix: str, **how: bool) -> Iterator[ObjectInfo]:
        place = self.shown(prefix.strip("/"))
        options = {"noMimeType": True, **how}
        try:
            answer = self.call("operations/list", "list", prefix, remote=place, opt=options)
        except ObjectMissingError:
            return
        below = rclone_names.stored(self.shown(""))
        for item in answer.get("list") or ():
            path = rclone_names.stored(item["Path"])
            path = path[len(below) + 1 :] if below else path
            size = 0 if item.get("IsDir") else int(item["Size"])
            # The name of a directory ends in a slash, as that of an object that stands for one.
            yield ObjectInfo(f"{path}/" if item.get("IsDir") else path, size, "", _moment(item))

    def directories(self, prefix: str = "") -> tuple[str, ...]:
        """The names (not paths) of the directories directly below ``prefix``, sorted."""
        found = self._listed(prefix, dirsOnly=True)
        return tuple(sorted(info.path.rstrip("/").rpartition("/")[2] for info in found))

    def stat(self, path: str) -> Attestation | None:
        """What the store says about a file, or None if it is not there.

        The server is asked for a hash of it, where one is believed.
        """
        return self._stat(path, hashes=ATTESTED.get(self.remote.type, ()))

    def _stat(self, path: str, hashes: tuple[str, ...] = ()) -> Attestation | None:
        options = {"noMimeType": True, "showHash": bool(hashes), "hashTypes": list(hashes)}
        try:
            item = self.call(
                "operations/stat", "attest", path, remote=self.shown(path), opt=options
            ).get("item")
        except ObjectMissingError:
            return None
        if not item or item.get("IsDir"):
            return None
        told = item.get("Hashes") or {}
        checksums = tuple(
            Checksum(name, base64.b64encode(bytes.fromhex(told[name])).decode())
            for name in hashes
            if told.get(name)
        )
        return Attestation(int(item["Size"]), "", checksums, modified=_moment(item))

    def stat_many(
        self, paths: Iterable[str], workers: int = WORKERS
    ) -> Mapping[str, Attestation | None]:
        """What the store says about many files, without a hash, which may take it long."""
        wanted = tuple(paths)
        with at_once(workers, "attest") as pool:
            return dict(zip(wanted, pool.map(self._stat, wanted), strict=True))

    def part_sizes(self, path: str, attestation: Attestation) -> tuple[int, ...] | None:  # noqa: ARG002
        """No hash here is one of parts."""
        return None

    def chunks(self, path: str, *, chunk_bytes: int = CHUNK_BYTES) -> Generator[bytes, None, None]:
        """The bytes of a file in order, in one request that is taken up where it breaks.

        Raises
        ------
        ObjectMissingError
            If the file is not there.
        ObjectChangedError
            If it broke off, and was replaced before it could be taken up.
        """
        yield from self._streamed(path, chunk_bytes)

    def _streamed(self, path: str, chunk_bytes: int) -> Generator[bytes, None, None]:
        first = None
        offset = 0
        for left in range(READ_TRIES, 0, -1):
            response = self.open(path, offset)
            with closing(response):
                now = (_total(response, offset), response.headers.get("Last-Modified", ""))
                first = first or now
                if now != first or (offset and response.status != PARTIAL_CONTENT):
                    raise ObjectChangedError(
                        f"{self.url(path)} was replaced while it was being read.",
                        hint=f"See who else writes there, then: mountkit verify {self.source.url}",
                    )
                try:
                    for piece in self._pieces(response, chunk_bytes):
                        offset += len(piece)
                        yield piece
                except TimeoutError as error:
                    raise self.silent(self.patience, "read", path) from error
                except (OSError, IncompleteRead) as error:
                    if left == 1:
                        raise MountUnavailableError(
                            f"{self.url(path)} broke off after {offset} bytes of {first[0]}.",
                            hint=f"Try again: mountkit doctor {self.source.url}",
                        ) from error
            if offset >= first[0]:
                return

    def _pieces(self, response: HTTPResponse, chunk_bytes: int) -> Iterator[bytes]:
        """What is still to come; raises IncompleteRead if less came than was announced."""
        while response.length != 0:
            self.deadline.check()
            left = response.length
            room = chunk_bytes if left is None else min(chunk_bytes, left)
            piece = response.read(room)
            if piece:
                yield piece
            if len(piece) < room:
                if left is None:
                    return
                raise IncompleteRead(b"", left - len(piece))

    def get(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> bytes | None:
        """The bytes of a small file, or None if it is not there.

        Raises VerificationError if it has more than ``limit`` bytes.
        """
        found: list[bytes] = []
        size = 0
        try:
            with closing(self._streamed(path, min(limit + 1, CHUNK_BYTES))) as chunks:
                for chunk in chunks:
                    found.append(chunk)
                    size += len(chunk)
                    if size > limit:
                        raise VerificationError(
                            f"{self.url(path)} is bigger than {limit} bytes, which is too big for "
                            "what it is.",
                            hint=f"See what it is: {self.peek(path)}",
                        )
        except ObjectMissingError:
            return None
        return b"".join(found)

    def peek(self, path: str) -> str:
        """What a person types to see the first bytes of a file."""
        return f"rclone cat --head 200 {self.source.bucket}:{self.source.key(path)}"

    def read(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> Version:
        """A small file as it is now, or that it is not there; the store tells no time.

        Raises VerificationError if it has more than ``limit`` bytes.
        """
        data = self.get(path, limit=limit)
        there = self._stat(path) if data is not None else None
        return Version(data, "", there.modified if there is not None else None, None)

    def put(self, path: str, data: bytes) -> None:
        """Write a small file under a temporary name, read it back, and move it into its place.

        Raises NotDurableError if it did not arrive.
        """
        folder = path.rpartition("/")[0]
        draft = f"{folder}/" if folder else ""
        draft += f"{PROBE_NAME}{secrets.token_hex(8)}"
        self.upload(draft, data)
        if self.get(draft, limit=max(len(data), 1)) != data:
            self._delete(draft)
            raise NotDurableError(
                f"{self.url(path)} was damaged on its way to the store, which did not keep it.",
                hint="Try again; if it happens often, check this machine's memory and network.",
            )
        self.call(
            "operations/movefile",
            "write",
            path,
            srcFs=self.fs,
            srcRemote=self.shown(draft),
            dstFs=self.fs,
            dstRemote=self.shown(path),
        )

    def put_if(self, path: str, data: bytes, *, tag: str | None) -> Version | None:  # noqa: ARG002
        """Raise UnsupportedConditionError: rclone has no such request."""
        raise UnsupportedConditionError(
            f"rclone does not write {self.url(path)} under a condition.",
            hint="Start one run at a time on a place.",
        )

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files, and the directories that are empty then; what is not there is no error."""
        folders: set[str] = set()
        for path in paths:
            if path.endswith("/"):
                folders.add(path.rstrip("/"))
                continue
            self._delete(path)
            parts = path.split("/")[:-1]
            folders.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        # The deepest first. An object store has none, and says so or nothing.
        for folder in sorted(folders, key=lambda each: each.count("/"), reverse=True):
            if next(self._listed(folder), None) is None:
                self._remove_directory(folder)

    def _delete(self, path: str) -> None:
        try:
            self.call("operations/deletefile", "delete", path, remote=self.shown(path))
        except ObjectMissingError:
            return

    def _remove_directory(self, folder: str) -> None:
        try:
            self.call("operations/rmdir", "delete", folder, remote=self.shown(folder))
        except ObjectMissingError:
            return
        except MountkitError as error:
            # Somebody has put something there meanwhile.
            if "not empty" not in error.message:
                raise

    def abort_uploads(self) -> None:
        """Delete what uploads that broke off have left: rclone's parts, and drafts of ``put``."""
        self.delete([info.path for info in self.list() if PARTIAL.search(info.path)])

    def check(self, *, write: bool = True, seconds: float = 9.0) -> StoreFacts:
        """Try everything a save will need, and say what is wrong, within ``seconds``.

        See ``access_check.check``.
        """
        from mountkit.store.remote import access_check

        return access_check.check(self, self, write=write, seconds=seconds)


def _moment(item: Mapping[str, Any]) -> datetime:
    """When a file was written last, as rclone tells it; finer than a microsecond is cut off."""
    return datetime.fromisoformat(item["ModTime"])


def _total(response: HTTPResponse, offset: int) -> int:
    """The size of the whole file, of which the answer may be the rest."""
    return offset + (response.length or 0)
