"""What a run has saved into a directory: whatever is there, and was not there before it began.

A file there is where it belongs. Its bytes may still be in the kernel's memory alone; the store
syncs it, and reads it back from the disk (``mountkit.store.file``).
"""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import TYPE_CHECKING

from mountkit.backends.base import CacheLostError, Pending, Reference, WrittenFile
from mountkit.backends.direct.walk import walk
from mountkit.errors import MountUnavailableError
from mountkit.formatting import printable
from mountkit.linux import bounded_read, mount_io
from mountkit.names import (
    LEASE_NAME,
    MANIFEST_NAME,
    PROBE_NAME,
    SAME_SAVE_SECONDS,
    is_own,
    is_proof,
    top_of,
)
from mountkit.state import baseline
from mountkit.state.baseline import Baseline
from mountkit.state.mount_directory import StateDirectory
from mountkit.state.write_journal import UNFINISHED, Journal
from mountkit.store.checksums import REFERENCE, Digester, FileDigest
from mountkit.timing import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mountkit.backends.direct.walk import Found
    from mountkit.spec import MountSpec
    from mountkit.state.write_journal import Written

# Of a file system that hangs; a large directory may take longer, and is told of meanwhile.
SILENCE_SECONDS = 10.0
TRIAL_SECONDS = 30.0
# From the last byte of a file until its writer has noted its checksum, on a busy machine.
NOTED_SECONDS = 2.0
# While rclone writes one of mountkit's own files, it has such a name.
DRAFT = ".partial"


class DirectControl:
    """The directory of one run; see :class:`mountkit.backends.base.Control`."""

    def __init__(self, spec: MountSpec, directory: Path, deadline: Deadline | None = None) -> None:
        self._spec = spec
        self._top = spec.target
        self._state = StateDirectory(directory)
        self._journal = Journal(directory)
        self._deadline = deadline or Deadline()
        # What was seen last, for ``reference`` is asked of file after file.
        self._last: Mapping[str, WrittenFile] = {}

    def self_check(self) -> None:
        """Note what is there, unless a run that came to no end has noted it, and goes on now."""
        if baseline.read(self._state.path) is not None:
            return
        began = time.time()
        ahead = self._clock() - began
        found = self._walk()
        files = {each.path: each.stamp for each in found}
        baseline.write(self._state.path, Baseline(began, ahead, files))

    def flush_uploads(self) -> Pending:
        """There is no queue; what a writer could not write to its end is lost."""
        noted = self._journal.read()
        return Pending(
            lost=tuple((file.path, noted[file.path].problem) for file in self.files() if file.dirty)
        )

    def files(self, below: str = "") -> tuple[WrittenFile, ...]:
        """All that is there now, and was not there, or was another, when the run began.

        Raises MountUnavailableError if the file system does not answer, CacheLostError if the
        directory was not there for a while: what was written meanwhile is where nobody looks.
        """
        before = baseline.read(self._state.path)
        if before is None:
            return ()
        if before.lost:
            raise CacheLostError(
                f"{before.lost} What was written since is not known.",
                hint="Run it again, from the newest proven checkpoint: mountkit latest "
                f"{self._spec.source.url}",
            )
        noted = self._journal.read()
        files = tuple(
            self._written(found, before, noted.get(found.path))
            for found in self._walk(below)
            if before.files.get(found.path) != found.stamp and not _is_mountkits(found)
        )
        self._last = {file.path: file for file in files}
        return files

    def _walk(self, below: str = "") -> tuple[Found, ...]:
        return walk(self._top, below, self._deadline.cut(SILENCE_SECONDS))

    def _written(self, found: Found, before: Baseline, noted: Written | None) -> WrittenFile:
        # By this machine's clock. The two are compared once, and may drift apart by a little.
        changed = max(found.changed / 1e9 - before.ahead, before.at)
        version = f"{found.inode:x}-{found.changed:x}"
        torn = noted is not None and self._is_torn(noted, changed)
        return WrittenFile(found.path, found.size, changed, torn, version)

    def _is_torn(self, noted: Written, changed: float) -> bool:
        """Whether its writer did not get to its end, and nobody has written it since."""
        if not noted.problem:
            return False
        record = self._state.last()
        if record is not None and noted.at < record.began:
            # That was an earlier run's, which has named it.
            return False
        return noted.problem == UNFINISHED or changed <= noted.at + NOTED_SECONDS

    def reference(self, path: str) -> Reference | None:
        """As it was written, if mountkit's own writers did; else as the kernel has it now."""
        if path not in self._last:
            self.files(path.rpartition("/")[0])
        found = self._last.get(path)
        if found is None or found.dirty:
            return None
        noted = self._journal.read().get(path)
        if noted is not None and not noted.problem and found.modified <= noted.at + NOTED_SECONDS:
            # Of another size, or with other bytes: then the disk has not taken what was written.
            return Reference(FileDigest(noted.size, {REFERENCE: noted.crc64nvme}), "write")
        try:
            return Reference(self._digest(path), "mount")
        except FileNotFoundError:
            return None

    def _digest(self, path: str) -> FileDigest:
        digester = Digester()
        silence = self._deadline.cut(SILENCE_SECONDS)
        with contextlib.closing(bounded_read.chunks(f"{self._top}/{path}", silence)) as pieces:
            for piece in pieces:
                self._deadline.check()
                digester.update(piece)
        return digester.result()

    def explain(self, path: str) -> str:  # noqa: ARG002
        """The system call has said it."""
        return ""

    def last_error(self) -> tuple[float, str] | None:
        """Of the writes that failed, the last."""
        record = self._state.last()
        began = record.began if record is not None else 0.0
        failed = [
            (noted.at, f"{printable(path)}: {noted.problem}")
            for path, noted in self._journal.read().items()
            if noted.problem and noted.at >= began
        ]
        return max(failed, default=None)

    def content(self, path: str) -> bytes | None:  # noqa: ARG002
        """The store has it."""
        return None

    def partially_deleted(self, below: str = "") -> tuple[str, ...]:
        """By the directories, which change when a file of them is made or removed."""
        folders: dict[str, int] = {}
        changed: dict[str, int] = {}
        for found in self._walk(below):
            top = top_of(found.path)
            if top:
                folders[top] = max(folders.get(top, 0), found.folder_changed)
                changed[top] = max(changed.get(top, 0), found.changed)
        # The last change of a directory is the making of its last file, or it is a removal.
        slack = int(SAME_SAVE_SECONDS * 1e9)
        return tuple(sorted(top for top in folders if folders[top] - changed[top] > slack))

    def leftovers(self, below: str = "") -> tuple[str, ...]:  # noqa: ARG002
        """Whatever is written can be renamed."""
        return ()

    def emptied(self, directory: str) -> float:  # noqa: ARG002
        """A directory stays until it is removed itself."""
        return 0.0

    def repair_cache(self, quarantine: Path) -> tuple[str, ...]:  # noqa: ARG002
        """There is no cache."""
        return ()

    def reconcile_leftovers(
        self, quarantine: Path, outdated: Iterable[str], missing: Iterable[str]
    ) -> None:
        """Nothing waits."""

    def evict(self, files: Iterable[WrittenFile]) -> tuple[str, ...]:  # noqa: ARG002
        """There are no copies."""
        return ()

    def purge(self) -> None:
        """There are no copies."""

    def invalidate_directory(self, directory: str) -> None:
        """The file system shows what is there."""

    def _clock(self) -> float:
        """What time it is for the file system, which may be another machine's."""
        name = f"{PROBE_NAME}{secrets.token_hex(8)}"
        problem, now = mount_io.clock(self._top, name, TRIAL_SECONDS)
        if problem:
            raise MountUnavailableError(
                f"{printable(self._top)} takes no file: {problem}.",
                hint=f"See whose it is, and what it lies on: ls -ld {self._top}; "
                f"findmnt --target {self._top}",
            )
        return now


def _is_mountkits(found: Found) -> bool:
    """What mountkit puts there itself, and links, which hold no bytes, outside of checkpoints."""
    name = found.path.rpartition("/")[2]
    draft = name.endswith(DRAFT) and name.startswith(
        (MANIFEST_NAME, LEASE_NAME, "mountkit-receipt-")
    )
    link = found.link and not top_of(found.path)
    return draft or link or is_own(found.path) or is_proof(found.path)
