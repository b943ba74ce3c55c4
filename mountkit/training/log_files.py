"""The logs of a training: written on the local disk, and copied whole to where they belong.

Mountpoint for S3 appends nothing to a file that is there, and on every mount a log that is open all
the time would never be uploaded. So each file is copied anew, whenever it has changed.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.formatting import printable
from mountkit.linux import paths
from mountkit.training import log_copies
from mountkit.writers import hooks
from mountkit.writers.whole_file import Copied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mountkit.mounts.mount import Mount
    from mountkit.writers.whole_file import Pair

# What an earlier run has left is copied to the local disk to go on from; a larger file is not.
LARGEST_TO_CONTINUE = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Folder:
    """A local folder, where its files belong, and what was in it that is nobody's of ours."""

    local: Path
    there: Path
    others: frozenset[Path] = frozenset()


class LogFiles:
    """The log files of one place.

    Parameters
    ----------
    top:
        Where they belong, absolute.
    mount:
        The mount that ``top`` lies in. None if it lies in none: they are written there at once,
        and :meth:`copy` has nothing to do.
    copy:
        Copies local files to where they belong in a mount.
    mounted:
        Whether anything is mounted at a path.
    largest:
        The most bytes of an earlier run's file that are continued.

    Raises OSError if there is no room for them on the local disk.
    """

    def __init__(
        self,
        top: Path,
        mount: Mount | None,
        *,
        copy: Callable[[Mount, Sequence[Pair]], Copied] = log_copies.apart,
        mounted: Callable[[str], bool] = hooks.in_table,
        largest: int = LARGEST_TO_CONTINUE,
    ) -> None:
        self.top = top
        self.mount = mount
        self._copy = copy
        self._mounted = mounted
        self._largest = largest
        self._folders: list[_Folder] = []
        self._copied: dict[Path, tuple[int, int]] = {}
        self._complete = False
        # Each of several callbacks asks for copies.
        self._copying = threading.Lock()
        if mount is None:
            self._private = None
            self.local = top
            top.mkdir(parents=True, exist_ok=True)
        else:
            # Only its owner can read it.
            self._private = Path(tempfile.mkdtemp(prefix="mountkit-logs-"))
            self.local = self._private / "logs"
            self.folder_for(top)

    def folder_for(self, there: Path) -> Path:
        """A local folder whose files are copied to ``there``, which lies in the mount."""
        known = {folder.there: folder.local for folder in self._folders}
        if there in known:
            return known[there]
        if self._private is None:
            return there
        local = self.local if not known else self._private / f"folder-{len(known)}"
        local.mkdir(parents=True, exist_ok=True)
        self._folders.append(_Folder(local, there))
        return local

    def adopt(self, local: Path, there: Path) -> None:
        """Have what appears in a local folder from now on copied to ``there``, too."""
        if self._private is not None and all(folder.local != local for folder in self._folders):
            self._folders.append(_Folder(local, there, frozenset(_files(local))))

    def keeps(self, path: Path) -> bool:
        """Whether a local folder is one of these already."""
        resolved = paths.resolve(path)
        tops = [paths.resolve(folder.local) for folder in self._folders] or [str(self.local)]
        return any(resolved == top or resolved.startswith(f"{top}/") for top in tops)

    def continued(self, name: str) -> tuple[Path, str]:
        """A local file that goes on where an earlier run left it, and what is to be said of that.

        What cannot be read is not written over: this run's file then has another name.
        """
        local, there = self.local / name, self.top / name
        try:
            data = self._earlier(there)
        except OSError as error:
            other = f"{Path(name).stem}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            local = self.local / f"{other}{Path(name).suffix}"
            return local, (
                f"{printable(str(there))} of an earlier run cannot be read "
                f"({error.strerror or error}); it stays, and this run writes {local.name}"
            )
        # Of a copy that broke off.
        torn = b"\n" if data and not data.endswith(b"\n") else b""
        if self.mount is None:
            with local.open("ab") as file:
                file.write(torn)
        else:
            local.write_bytes(data + torn)
            if data:
                self._copied[local] = _signature(local)
        return local, ""

    def _earlier(self, there: Path) -> bytes:
        if self.mount is not None and not self._mounted(self.mount.path):
            raise OSError(errno.ENOTCONN, "nothing is mounted right now", str(there))
        try:
            with there.open("rb") as file:
                data = file.read(self._largest + 1)
        except FileNotFoundError:
            return b""
        if len(data) > self._largest:
            raise OSError(errno.EFBIG, f"it has more than {self._largest:,} bytes", str(there))
        return data

    def copy(self) -> list[str]:
        """Copy each file that has changed; what could not be copied, and why, in words."""
        with self._copying:
            return self._copy_changed()

    def _copy_changed(self) -> list[str]:
        # Until it has come to its end: at that of the process, the local files may be all there is.
        self._complete = False
        changed = self._changed()
        copied = Copied()
        if self.mount is not None and changed:
            pairs = [(local, there) for local, (there, _) in changed.items()]
            copied = self._copy(self.mount, pairs)
        self._copied |= {local: changed[local][1] for local in copied.done}
        self._complete = not copied.problems
        return [*copied.problems]

    @property
    def settled(self) -> bool:
        """Whether all of it is where it belongs, as far as is known."""
        return self._complete and not self._changed()

    def _changed(self) -> dict[Path, tuple[Path, tuple[int, int]]]:
        """What is not copied as it is now: where it belongs, and how it is."""
        changed = {}
        for local, there in self._pairs():
            with contextlib.suppress(FileNotFoundError):
                signature = _signature(local)
                if self._copied.get(local) != signature:
                    changed[local] = (there, signature)
        return changed

    def _pairs(self) -> Iterator[tuple[Path, Path]]:
        for folder in self._folders:
            for path in _files(folder.local):
                if path not in folder.others:
                    yield path, folder.there / path.relative_to(folder.local)

    def remove(self) -> None:
        """Remove the local files, once they are copied."""
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _signature(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
