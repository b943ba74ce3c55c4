"""rclone's cache on disk: the files, and rclone's record of each (``vfs/vfscache/item.go``).

Read and, while no daemon runs, mended here without rclone and without the mount.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mountkit.backends.base import WrittenFile
from mountkit.errors import MountUnavailableError
from mountkit.linux import sparse_files
from mountkit.names import SAME_SAVE_SECONDS, TRAINER_STATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

DRAFT_NAME = "record.draft"
REWRITE_TRIES = 50
REWRITE_SECONDS = 0.01


class RcloneCache:
    """The two trees of one mount's cache: ``data`` has the bytes, ``meta`` a record for each."""

    def __init__(
        self,
        data: Path,
        meta: Path,
        has_hole: Callable[[Path, Path], bool] = sparse_files.has_hole,
    ) -> None:
        self.data = data
        self.meta = meta
        self._has_hole = has_hole
        # The directory of the mount's cache: what lies there is mountkit's, and not rclone's.
        self.top = Path(os.path.commonpath([data, meta]))

    def files(self, below: str = "") -> tuple[WrittenFile, ...]:
        """Every file below a directory, by rclone's own record.

        Raises MountUnavailableError if the cache cannot be read: what is not seen is not known to
        be uploaded.
        """
        with self._readable():
            return self._files(below)

    def file(self, path: str) -> WrittenFile | None:
        """One file, by rclone's own record; None if that cannot be read just now."""
        info = _read_info(self.meta / path)
        return self._recorded(path, info) if info else None

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MountUnavailableError(
                f"The local cache cannot be read: {error}.",
                hint=f"See what became of it: ls -la {self.top}",
            ) from error

    def _files(self, below: str) -> tuple[WrittenFile, ...]:
        left = [path.relative_to(self.meta).as_posix() for path in _walk(self.meta / below)]
        found: list[WrittenFile] = []
        for attempt in range(REWRITE_TRIES):
            if attempt and left:
                # rclone empties a record before it writes it anew, which takes it no time at all.
                time.sleep(REWRITE_SECONDS)
            infos = [(path, _read_info(self.meta / path)) for path in left]
            found.extend(
                self._recorded(path, info)
                for path, info in infos
                if info and not self._blank(path, info)
            )
            left = [path for path, info in infos if info == {}]
        found.extend(file for file in map(self._unrecorded, left) if file is not None)
        return tuple(sorted(found, key=lambda file: file.path))

    def _blank(self, path: str, info: dict[str, Any]) -> bool:
        """Whether it is the record of a file that was removed before rclone heard of its close.

        The kernel tells of a close later than of the removal that follows it, and rclone makes the
        record anew. Bytes that were there, and were taken away, leave their ranges, or are dirty.
        """
        told = info.get("Dirty", True) or info.get("Fingerprint") or info.get("Rs")
        return not told and not (self.data / path).exists()

    def _recorded(self, path: str, info: dict[str, Any]) -> WrittenFile:
        """A file by its record.

        A file that is removed while a program has it open stays open in rclone, which notes it
        again when it is closed, has nothing to upload then, and takes it for uploaded. Bytes that
        somebody took away leave the same record, but for an empty file, which has none. Where there
        are bytes, see ``_replaced``.
        """
        size, changed = info.get("Size", 0), _seconds(info.get("ModTime"))
        if info.get("Dirty", True):
            return WrittenFile(path, size, changed, dirty=True)
        try:
            there = (self.data / path).stat().st_size
        except FileNotFoundError:
            gone = not info.get("Fingerprint") or size == _uploaded_size(info) == 0
            return WrittenFile(path, size, changed, dirty=False, gone=gone)
        return WrittenFile(path, there if _replaced(info, there) else size, changed, dirty=False)

    def _unrecorded(self, path: str) -> WrittenFile | None:
        """A file whose record stays unreadable, as the file itself shows it."""
        try:
            status = (self.data / path).stat()
        except FileNotFoundError:
            return None
        return WrittenFile(path, status.st_size, status.st_mtime, dirty=True)

    def local(self, path: str) -> Path | None:
        """The cached file, if all of it is there."""
        info = _read_info(self.meta / path)
        data = self.data / path
        if not info:
            return None
        try:
            size = data.stat().st_size
        except FileNotFoundError:
            return None
        return data if _whole(info, size) or _replaced(info, size) else None

    def comparable(self, path: str) -> Path | None:
        """The cached file, where the store can be compared with it.

        Closing a file that another one replaced meanwhile notes the ranges of the old one, with the
        size of the new one. What rclone has only fetched in part mostly has a hole; where that is
        too small to be one, the store does not have the zeros that are there.
        """
        local, data = self.local(path), self.data / path
        info = _read_info(self.meta / path)
        if local is not None or not info:
            return local
        try:
            size = data.stat().st_size
            solid = size > 0 and not self._has_hole(data, self.top)
        except FileNotFoundError:
            return None
        return data if solid and info.get("Size", -1) == size else None

    def purge(self) -> None:
        """Empty the cache, but for files that still wait for their upload."""
        for file in self.files():
            if not file.dirty:
                (self.data / file.path).unlink(missing_ok=True)
                (self.meta / file.path).unlink(missing_ok=True)

    def partially_deleted(self, below: str = "") -> tuple[str, ...]:
        """Checkpoints with a directory that changed after the state and all in it were written.

        What is added changes a directory no later than it is written itself, and reading a file
        leaves its time as it is: something was removed, or moved away. That is not seen where
        another file was added to the same directory after it.

        Raises MountUnavailableError if the cache cannot be read.
        """
        with self._readable():
            return self._partially_deleted(below)

    def _partially_deleted(self, below: str) -> tuple[str, ...]:
        found = []
        for state in _walk(self.data / below):
            if state.name == TRAINER_STATE:
                try:
                    removed = _removed_after(state)
                except FileNotFoundError:
                    # It is being removed just now.
                    removed = True
                if removed:
                    found.append(state.parent.relative_to(self.data).as_posix())
        return tuple(found)

    def repair_cache(self, quarantine: Path) -> tuple[str, ...]:
        """Mend what a killed rclone left, before the next one reads it; only while none runs.

        rclone writes a file's record in place. Killed in the middle of that, it leaves an empty
        or stale one, and at its next start deletes the data (F12). The bytes of a file that was
        closed are all in the cache, so its record is written anew. A file with holes was being
        changed, and one shorter than its record lost its end when the machine went down: nobody can
        tell what belongs there, so it is moved to ``aside``; so is one that was appended to before
        rclone had fetched what was there, of which it keeps zeros. A rename moves the bytes first
        and then the record: of one that broke off in between, the old name is forgotten.

        Returns the files that were moved away, relative to the mount.
        """
        moved, nameless = [], []
        for data in _walk(self.data):
            path = data.relative_to(self.data).as_posix()
            status = data.stat()
            info = _read_info(self.meta / path)
            # One that was only created may have none, either, but holds nothing.
            if info is None and status.st_size:
                nameless.append(path)
            if info and (not info.get("Dirty", True) or _whole(info, status.st_size)):
                continue
            torn = self._has_hole(data, self.top) or _unfetched(info or {})
            if torn or (info or {}).get("Size", 0) > status.st_size:
                self.move_to_quarantine(quarantine, [path])
                moved.append(path)
                continue
            self._write_info(path, info or {}, status)
        self._forget_old_name(nameless)
        return tuple(moved)

    def _forget_old_name(self, renamed: Sequence[str]) -> None:
        """Where one file had no record, and one record of its directory has no file: a rename.

        Anything else stays as it is: a record alone also tells of bytes that somebody took away.
        """
        if len(renamed) != 1:
            return
        alone = [
            path.relative_to(self.meta).as_posix()
            for path in _walk(self.meta)
            if not (self.data / path.relative_to(self.meta)).exists()
            and (_read_info(path) or {}).get("Dirty")
        ]
        if len(alone) == 1 and Path(alone[0]).parent == Path(renamed[0]).parent:
            (self.meta / alone[0]).unlink()

    def move_to_quarantine(self, quarantine: Path, paths: Iterable[str]) -> None:
        """Move files away, so that rclone never uploads them; only while none runs."""
        for path in paths:
            (quarantine / path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Of a file that was dropped when the disk was full only the record is there.
            with contextlib.suppress(FileNotFoundError):
                shutil.move(self.data / path, quarantine / path)
            (self.meta / path).unlink(missing_ok=True)

    def upload_again(self, paths: Iterable[str]) -> None:
        """Have rclone upload files that it uploaded before, if all of them is here."""
        for path in paths:
            local = self.local(path)
            if local is not None:
                self._write_info(path, {}, local.stat())

    def _write_info(self, path: str, info: dict[str, Any], status: os.stat_result) -> None:
        changed = datetime.fromtimestamp(status.st_mtime, UTC).isoformat()
        content = {
            "ModTime": changed,
            "ATime": changed,
            "Size": status.st_size,
            "Rs": [{"Pos": 0, "Size": status.st_size}] if status.st_size else None,
            "Fingerprint": info.get("Fingerprint", ""),
            "Dirty": True,
        }
        meta = self.meta / path
        meta.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Not named after the file, whose name may be as long as a name can be.
        draft = self.top / DRAFT_NAME
        draft.write_text(json.dumps(content))
        draft.replace(meta)


def _walk(top: Path) -> list[Path]:
    """Every file below a directory; rclone may remove some of them, and folders, meanwhile."""
    seen = os.walk(top, onerror=_raise_unless_gone)
    return [Path(folder) / name for folder, _, names in seen for name in names]


def _folders(top: Path) -> list[Path]:
    return [Path(folder) for folder, _, _ in os.walk(top, onerror=_raise_unless_gone)]


def _removed_after(state: Path) -> bool:
    """Whether something beside or below this file was removed after it was written."""
    written = state.stat().st_mtime
    for folder in _folders(state.parent):
        newest = max((path.stat().st_mtime for path in _walk(folder)), default=0.0)
        if folder.stat().st_mtime - max(written, newest) > SAME_SAVE_SECONDS:
            return True
    return False


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _whole(info: dict[str, Any], size: int) -> bool:
    """Whether rclone's record says that every byte of ``size`` is in the cache."""
    if info.get("Size", -1) != size:
        return False
    return size == 0 or info.get("Rs") == [{"Pos": 0, "Size": size}]


def _replaced(info: dict[str, Any], size: int) -> bool:
    """Whether another file, of ``size`` bytes, replaced the one of the record while it was open.

    rclone notes the old file again when it is closed, over the record of the new one, whose bytes
    it uploaded: their length is the first thing in the fingerprint of an object. They are all
    there, since it was no longer writing them. What their end was cut off from after their upload
    has another length than that, and what is missing in the store may be uploaded from here.
    """
    if info.get("Dirty", True) or info.get("Size", -1) == size:
        return False
    return _uploaded_size(info) == size


def _unfetched(info: dict[str, Any]) -> bool:
    """Whether the beginning of a file was only in the store when the record was written."""
    needed = min(_uploaded_size(info), info.get("Size", 0))
    ranges = info.get("Rs") or []
    return needed > 0 and not any(it["Pos"] == 0 and it["Size"] >= needed for it in ranges)


def _uploaded_size(info: dict[str, Any]) -> int:
    """The length of the object that the record was last made of, -1 without one."""
    size = str(info.get("Fingerprint") or "").partition(",")[0]
    return int(size) if size.isdecimal() else -1


def _read_info(path: Path) -> dict[str, Any] | None:
    """Rclone's record of a cached file; None if there is none, {} if it cannot be read (F12).

    Two files that had one name are noted by two threads at once, and the longer text shows behind
    the last one written. rclone reads the first value only, as this does.
    """
    try:
        info, _ = json.JSONDecoder().raw_decode(path.read_text() or "{}")
    except FileNotFoundError:
        return None
    except ValueError:
        # rclone rewrites the record in place; what is read in the middle of that says nothing.
        return {}
    return info if isinstance(info, dict) else {}


def _seconds(timestamp: str | None) -> float:
    try:
        at = datetime.fromisoformat(timestamp or "")
    except ValueError:
        return 0.0
    return at.timestamp() if at.tzinfo else 0.0
