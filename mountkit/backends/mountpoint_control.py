"""What a Mountpoint mount holds. There is no cache: what was closed well is in the store.

Nothing here touches the mount itself; helpers that can be killed do.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from mountkit import checksums, mountinfo, probe
from mountkit.backends import mountpoint_log
from mountkit.backends.protocol import Pending, Reference, WrittenFile
from mountkit.checksums import Digester, FileDigest
from mountkit.spec import MANIFEST_NAME, PROBE_NAME
from mountkit.state import StateDirectory
from mountkit.store import S3Store
from mountkit.written import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mountkit.spec import MountSpec, Source, StoreOptions
    from mountkit.state import MountRecord
    from mountkit.store import ObjectInfo, Store
    from mountkit.written import Written

LOOK_SECONDS = 10.0
# Mountpoint asks the store to rename; one that does not know how makes an empty object instead, and
# says that all went well.
EMPTIED = "it is empty: this store does not rename, and its content is under its old name"
# The store's clock and ours, read in whole seconds.
BLUR_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look at everything below a directory."""

    stored: Mapping[str, ObjectInfo]
    ours: Mapping[str, float]
    journal: Mapping[str, Written]
    open: tuple[str, ...]
    lost: Mapping[str, str]


class MountpointControl:
    """One Mountpoint mount, seen through its store, its log and the journal of our writers."""

    def __init__(
        self,
        spec: MountSpec,
        directory: Path,
        store: Store | None = None,
        shown: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        self._spec = spec
        self._given = store
        self._shown = shown or self._listed
        self._state = StateDirectory(directory)
        self._journal = Journal(directory)
        self._seen = _Seen({}, {}, {}, (), {})

    @property
    def _store(self) -> Store:
        return self._given or _connected(self._spec.source, self._spec.store)

    def _listed(self, below: str) -> Sequence[str]:
        """The files the mount shows, those that are being written among them."""
        return probe.names(self._spec.target, below, LOOK_SECONDS) if self._mounted() else ()

    def confirm(self) -> None:
        """There is nothing to confirm: it keeps no files on this machine."""

    def push(self) -> Pending:
        """Open again what the last look found open, which waits for an upload that is under way."""
        if self._seen.open and self._mounted():
            probe.reopen(self._spec.target, self._seen.open, LOOK_SECONDS)
        return Pending(lost=tuple(self._seen.lost.items()))

    def files(self, below: str = "") -> tuple[WrittenFile, ...]:
        """What the store got since the mount was made, and what has not come through."""
        record = self._state.read()
        if record is None:
            return ()
        self._seen = seen = self._look(record, below)
        found = {
            path: WrittenFile(path, seen.stored[path].size, at, False, seen.stored[path].etag)
            for path, at in seen.ours.items()
        }
        for path in (*seen.open, *seen.lost):
            found[path] = WrittenFile(path, 0, record.began, dirty=True)
        return tuple(found[path] for path in sorted(found))

    def _look(self, record: MountRecord, below: str) -> _Seen:
        # First the mount, then the store: what arrives between the two is in the store's answer.
        shown = self._shown(below)
        stored = {info.path: info for info in self._store.list(below)}
        journal = {path: entry for path, entry in self._journal.read().items() if _in(path, below)}
        dated = {
            path: info.modified.timestamp() - record.store_ahead for path, info in stored.items()
        }
        ours = {
            path: max(at, record.began)
            for path, at in dated.items()
            if at >= record.began - BLUR_SECONDS and not _is_mountkits(path)
        }
        lost = {path: EMPTIED for path in ours if _was_renamed(stored[path])}
        lost |= {
            path: reason
            for path, (at, reason) in self._failed(record, journal, below).items()
            # Written again after it failed, it is there after all.
            if dated.get(path, 0.0) < at - BLUR_SECONDS
        }
        waiting = tuple(
            path for path in shown if path not in stored and path not in lost and _in(path, below)
        )
        return _Seen(stored, ours, journal, waiting, lost)

    def _failed(
        self, record: MountRecord, journal: Mapping[str, Written], below: str
    ) -> dict[str, tuple[float, str]]:
        """When and why an upload failed last, by path; by the daemon's word and our writers'."""
        anew = self._state.written_anew()

        def over(path: str, at: float) -> bool:
            return any(_in(path, directory) and at < since for directory, since in anew.items())

        failed: dict[str, tuple[float, str]] = {}
        top = self._spec.source.key("")
        for failure in mountpoint_log.failures(self._state.log):
            path = failure.name[len(top) + 1 :] if top else failure.name
            if failure.key and failure.at >= record.began and _in(path, below):
                failed[path] = failure.at, f"its upload failed: {failure.reason}"
        for path, entry in journal.items():
            if entry.problem:
                failed.setdefault(path, (entry.at, entry.problem))
            else:
                # Our writers know when a file came through after it had failed.
                failed.pop(path, None)
        return {path: what for path, what in failed.items() if not over(path, what[0])}

    def explain(self, path: str) -> str:
        """Why the last operation on a file failed, by the daemon's log; "" if it does not say."""
        key, name = self._spec.source.key(path), path.rpartition("/")[2]
        said = mountpoint_log.failures(self._state.log)
        uploads = [failure.reason for failure in said if failure.key and failure.name == key]
        others = [failure.reason for failure in said if not failure.key and failure.name == name]
        return next(iter([*uploads[-1:], *others[-1:]]), "")

    def reference(self, path: str) -> Reference | None:
        """Taken while it was written, if mountkit wrote it.

        Otherwise what the store got from the daemon, which took the checksum of every byte before
        it sent them: the checksum the store confirmed, or the bytes read back.
        """
        seen = self._seen
        stored, entry = seen.stored.get(path), seen.journal.get(path)
        if stored is None:
            raise FileNotFoundError(errno.ENOENT, "the store does not have it", path)
        if path in seen.lost or path not in seen.ours:
            return None
        if entry is not None and seen.ours[path] <= entry.at + BLUR_SECONDS:
            return Reference(
                FileDigest(entry.size, {checksums.REFERENCE: entry.crc64nvme}), "write"
            )
        return Reference(self._digest(path), "mount")

    def _digest(self, path: str) -> FileDigest:
        attestation = self._store.attest(path)
        if attestation is None:
            raise FileNotFoundError(errno.ENOENT, "the store does not have it", path)
        known = attestation.checksums.get(checksums.REFERENCE)
        if known is not None and not attestation.composite:
            return FileDigest(attestation.size, {checksums.REFERENCE: known})
        digester = Digester()
        for chunk in self._store.chunks(path):
            digester.update(chunk)
        return digester.result()

    def content(self, path: str) -> bytes | None:  # noqa: ARG002
        """It keeps nothing; the store has it."""
        return None

    def audit(self, aside: Path) -> tuple[str, ...]:  # noqa: ARG002
        """A killed Mountpoint leaves nothing to mend."""
        return ()

    def purge(self) -> None:
        """There are no local copies."""

    def refresh(self, directory: str) -> None:
        """The mount lists the store anew each time."""

    def _mounted(self) -> bool:
        return mountinfo.at(self._spec.target) is not None


@lru_cache(maxsize=32)
def _connected(source: Source, options: StoreOptions) -> S3Store:
    """One client a place: making one takes longer than a request."""
    return S3Store(source, options)


def _in(path: str, below: str) -> bool:
    return not below or path.startswith(f"{below}/")


def _was_renamed(info: ObjectInfo) -> bool:
    """Whether it is empty and not of Mountpoint's own making, which uploads all in parts."""
    return not info.size and "-" not in info.etag


def _is_mountkits(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name == MANIFEST_NAME or name.startswith(PROBE_NAME)
