"""A run's own place in a store: files of this machine, or objects that a client asks for."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from mountkit.demo.servers import BUCKET
from mountkit.demo.training import digests
from mountkit.errors import ConfigurationError, MountkitError, VerificationError
from mountkit.store import open_store, parse, provider
from mountkit.timing import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mountkit.demo.servers import Reached
    from mountkit.store.base import Store

CHECK_SECONDS = 30.0
READ_SECONDS = 300.0
REMOVE_SECONDS = 120.0


class Place(Protocol):
    """A run's own place in a store. All paths are relative to it."""

    def reach(self) -> AbstractContextManager[Reached]:
        """Serve until the end of the block; the URL is that of the run."""
        ...

    def digests(self, checkpoint: str) -> dict[str, str]:
        """The SHA-256 of every file that the store holds of a checkpoint, by its path in it."""
        ...

    def flip(self, path: str) -> None:
        """Flip every bit of the byte in the middle of a file, as one who overwrites it would."""
        ...

    def remove(self, *, broken_off: bool) -> list[str]:
        """Remove all of the run, of which an upload may have broken off; what stays, and why."""
        ...

    def kept(self) -> tuple[str, str]:
        """Commands: to see what the run has left, and to remove it."""
        ...


class Files:
    """A run whose objects are files on this machine."""

    def __init__(
        self,
        server: AbstractContextManager[Reached],
        data: Path,
        run: str,
        *,
        given: bool,
    ) -> None:
        self._server, self._data, self._run, self._given = server, data, run, given

    @property
    def _folder(self) -> Path:
        return self._data / BUCKET / self._run

    @contextmanager
    def reach(self) -> Iterator[Reached]:
        """Over a directory that is made, if it is not there."""
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"{self._folder.parent} cannot be made: {error.strerror}.",
                hint="Give another directory: mountkit demo --data-dir DIR",
            ) from error
        with self._server as store:
            yield _of_run(store, self._run, f"{store.told}, its data in {self._data}")

    def digests(self, checkpoint: str) -> dict[str, str]:
        """Of the files as the server keeps them."""
        return digests(self._folder / checkpoint)

    def flip(self, path: str) -> None:
        """In place.

        The time of change has to move with it: rclone's server remembers the checksum of a file
        whose size and time are the same, and would go on to tell the old one for a second.
        """
        file = self._folder / path
        if not file.exists():
            raise VerificationError(f"{file} is not there to be damaged.")
        with file.open("r+b") as stream:
            stream.seek(file.stat().st_size // 2)
            byte = stream.read(1)[0]
            stream.seek(-1, os.SEEK_CUR)
            stream.write(bytes([byte ^ 0xFF]))

    def remove(self, *, broken_off: bool) -> list[str]:  # noqa: ARG002
        """Remove the directory of the run."""
        shutil.rmtree(self._folder, ignore_errors=True)
        return []

    def kept(self) -> tuple[str, str]:
        """For a shell."""
        place = shlex.quote(str(self._folder))
        # Of a directory that was given, only what this run made is the demo's to remove.
        rubbish = place if self._given else shlex.quote(str(self._data))
        return f"find {place} -type f", f"rm -r {rubbish}"


class Objects:
    """A run in a store that is asked by the client that mountkit itself asks with."""

    def __init__(self, server: AbstractContextManager[Reached], run: str) -> None:
        self._server, self._run = server, run

    @contextmanager
    def reach(self) -> Iterator[Reached]:
        """Once the store has taken a first object, and given it back."""
        with self._server as store:
            self._reached = store
            with self._asked() as client:
                client.check(seconds=CHECK_SECONDS)
            yield _of_run(store, self._run, store.told)

    @contextmanager
    def _asked(self, seconds: float = READ_SECONDS) -> Iterator[Store]:
        """The store, above all runs; its client finds what it needs in the environment."""
        source, deadline = parse(self._reached.url), Deadline()
        deadline.set(seconds)
        before = dict(os.environ)
        try:
            os.environ.clear()
            os.environ.update(self._reached.environment)
            options = provider(source.scheme).options(self._reached.options, os.environ)
            yield open_store(source, options, deadline=deadline)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def digests(self, checkpoint: str) -> dict[str, str]:
        """Of the bytes of every object."""
        top, found = f"{self._run}/{checkpoint}", {}
        with self._asked() as store:
            for each in store.list(top):
                digest = hashlib.sha256()
                for chunk in store.chunks(each.path):
                    digest.update(chunk)
                found[each.path.removeprefix(f"{top}/")] = digest.hexdigest()
        return found

    def flip(self, path: str) -> None:
        """Read, change and write the object."""
        with self._asked() as store:
            whole = f"{self._run}/{path}"
            data = bytearray(store.get(whole) or b"")
            if not data:
                raise VerificationError(f"{store.url(whole)} is not there to be damaged.")
            data[len(data) // 2] ^= 0xFF
            store.put(whole, bytes(data))

    def remove(self, *, broken_off: bool) -> list[str]:
        """Remove what is below the run's own prefix, and nothing else."""
        with self._asked(REMOVE_SECONDS) as store:
            mine = store.source.child(self._run)
            try:
                # Named from above, so that an empty directory goes, too.
                store.delete([each.path for each in store.list(self._run, markers=True)])
                # Some stores refuse this where there is nothing to drop.
                if broken_off:
                    store.at(mine).abort_uploads()
            except MountkitError as error:
                return [f"{mine.url} stays: {error.message} Remove it: {self.kept()[1]}"]
        return []

    def kept(self) -> tuple[str, str]:
        """In the words of the store's own tools."""
        url = f"{self._reached.url}/{self._run}"
        tools = provider(parse(url).scheme)
        return tools.list_command(url), tools.delete_command(url)


def _of_run(store: Reached, run: str, told: str) -> Reached:
    return replace(store, url=f"{store.url}/{run}", told=told)
