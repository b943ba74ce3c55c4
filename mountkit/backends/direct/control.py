"""What a run has saved into a directory: whatever is there, and was not there before it began.

A file there is where it belongs. Its bytes may still be in the kernel's memory alone; the store
syncs it, and reads it back from the disk (``mountkit.store.file``).
"""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import replace
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
    TRAINER_STATE,
    is_own,
    is_proof,
    top_of,
)
from mountkit.state import baseline
from mountkit.state.baseline import Baseline, CutOff
from mountkit.state.mount_directory import StateDirectory
from mountkit.state.record import MOUNTING
from mountkit.state.write_journal import READ_NAME, UNFINISHED, Journal, content_stamp
from mountkit.store.checksums import REFERENCE, Digester, FileDigest
from mountkit.timing import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mountkit.backends.base import LogGap
    from mountkit.backends.direct.walk import Found, Walked
    from mountkit.spec import MountSpec
    from mountkit.state.record import MountRecord
    from mountkit.state.write_journal import Written

# Of a file system that hangs; a large directory may take longer, and is told of meanwhile.
SILENCE_SECONDS = 20.0
TRIAL_SECONDS = 30.0
LINK = "it is a symbolic link, and a checkpoint is whole by itself: save the file itself"
LEADS_OUT = "it is a symbolic link that leads out of the directory: save the file itself"
# While rclone writes one of mountkit's own files, it has such a name.
DRAFT = ".partial"


class DirectControl:
    """The directory of one run; see :class:`mountkit.backends.base.Control`."""

    def __init__(self, spec: MountSpec, directory: Path, deadline: Deadline | None = None) -> None:
        self._spec = spec
        self._top = spec.target
        self._state = StateDirectory(directory)
        self._journal = Journal(directory)
        # Of what others wrote: as it was when it was first read, before its disk was asked.
        self._read = Journal(directory, READ_NAME)
        self._deadline = deadline or Deadline()
        # What was seen last, for ``reference`` is asked of file after file.
        self._last: Mapping[str, tuple[WrittenFile, str]] = {}
        self._problems: Mapping[str, str] = {}

    def self_check(self) -> None:
        """Note what is there, unless a run that came to no end has noted it, and goes on now."""
        before = baseline.read(self._state.path)
        record = self._state.last()
        run = record.began if record is not None else 0.0
        found = self._walk()
        if before is not None and not before.is_of(found.top):
            baseline.note_lost(self._state.path, self._another())
            return
        if before is not None and before.run == run:
            # The run goes on after an error. What was lost meanwhile stays lost.
            return
        ahead = self._clock_ahead()
        if before is None:
            files = {each.path: each.stamp for each in found.files}
            noted = Baseline(time.time(), ahead, files, found.top, run=run)
        else:
            # A disk may have another number since, and another clock.
            noted = replace(before, top=found.top, ahead=ahead, run=run)
            noted = replace(noted, cut_off=self._cut_off(noted, found, record))
        baseline.write(self._state.path, noted)

    def _cut_off(
        self, before: Baseline, walked: Walked, record: MountRecord | None
    ) -> dict[str, CutOff]:
        """The files of saves in which earlier runs were killed, before this one writes any."""
        there = {found.path: found for found in walked.files}
        named = dict.fromkeys(record.unproven, record.named) if record is not None else {}
        cut_off = {}
        for path, word in self._journal.read().items():
            if not word.problem or word.stamp:
                continue
            found, known = there.get(path), before.cut_off.get(path)
            if known is None or known.at != word.at:
                stamp = found.stamp if found is not None else (0, 0, 0)
                known = CutOff(word.at, stamp, told=False)
            # Of this write, and of the file as it is: not of an earlier one at the same place.
            changed = known.stamp[1] / 1e9 - before.ahead
            if max(word.at, changed) < named.get(path, 0.0):
                known = replace(known, told=True)
            cut_off[path] = known
        return cut_off

    def flush_uploads(self) -> Pending:
        """There is no queue; what a writer could not write to its end is lost."""
        self.files()
        return Pending(lost=tuple(self._problems.items()))

    def files(self, below: str = "") -> tuple[WrittenFile, ...]:
        """All that is there now, and was not there, or was another, when the run began.

        Raises MountUnavailableError if the file system does not answer, CacheLostError if the
        directory was not there for a while: what was written meanwhile is where nobody looks.
        """
        before = baseline.read(self._state.path)
        if before is None:
            record = self._state.unfinished()
            if record is not None and record.state != MOUNTING:
                # Something clears old files away, as systemd-tmpfiles does below /tmp.
                raise self._lost(f"{self._state.path / baseline.BASELINE_NAME} is gone.")
            return ()
        if before.lost:
            raise self._lost(before.lost)
        walked = self._walk(below)
        if not before.is_of(walked.top):
            baseline.note_lost(self._state.path, self._another())
            raise self._lost(self._another())
        noted = self._journal.read()
        told = _told(walked, noted, before.cut_off)
        changed = [
            found
            for found in walked.files
            if before.files.get(found.path) != found.stamp
            and found.path not in told
            and not _is_mountkits(found)
        ]
        problems = {
            each.path: _problem(each, noted.get(each.path), before.cut_off.get(each.path))
            for each in changed
        }
        self._problems = {path: why for path, why in problems.items() if why}
        # By this machine's clock. The two are compared once, and may drift apart by a little.
        files = tuple(
            WrittenFile(
                found.path,
                found.size,
                max(found.changed / 1e9 - before.ahead, before.at),
                found.path in self._problems,
                f"{found.inode:x}-{found.changed:x}",
            )
            for found in changed
        )
        self._last = {
            file.path: (file, content_stamp(found.inode, found.size, found.modified))
            for file, found in zip(files, changed, strict=True)
        }
        return files

    def _another(self) -> str:
        return f"{printable(self._top)} is another directory than the one it was."

    def _lost(self, reason: str) -> CacheLostError:
        return CacheLostError(
            f"{reason} What was written since is not known.",
            hint="Run it again, from the newest proven checkpoint: mountkit latest "
            f"{self._spec.source.url}",
        )

    def _walk(self, below: str = "") -> Walked:
        return walk(self._top, below, self._deadline.cut(SILENCE_SECONDS))

    def reference(self, path: str) -> Reference | None:
        """As it was written, if mountkit's own writers did; else as it was when first read.

        Read once more after its disk was asked, it would be what the disk has, right or wrong.
        """
        last = self._last
        if path not in last:
            self.files(path.rpartition("/")[0])
            last = self._last
        if path not in last or last[path][0].dirty:
            return None
        file, content = last[path]
        noted = self._journal.read().get(path)
        if noted is not None and not noted.problem and noted.stamp == content:
            return Reference(FileDigest(noted.size, {REFERENCE: noted.crc64nvme}), "write")
        first = self._read.read().get(path)
        if first is not None and first.stamp == file.version:
            return Reference(FileDigest(first.size, {REFERENCE: first.crc64nvme}), "mount")
        try:
            digest = self._digest(path)
        except FileNotFoundError:
            return None
        self._read.done(path, digest.size, digest.values[REFERENCE], file.version)
        return Reference(digest, "mount")

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
        """By the directories, which change when a file of them is removed, and what was there."""
        before = baseline.read(self._state.path)
        known = {*self._journal.read(), *self._read.read(), *(before.files if before else ())}
        folders: dict[str, int] = {}
        changed: dict[str, int] = {}
        for found in self._walk(below).files:
            known.discard(found.path)
            top = top_of(found.path)
            if top:
                folders[top] = max(folders.get(top, 0), found.folder_changed)
                changed[top] = max(changed.get(top, 0), found.changed)
        # One that a save replaced went before its last file came.
        slack = int(SAME_SAVE_SECONDS * 1e9)
        gone = {top_of(path) for path in known if not is_proof(path)}
        return tuple(
            sorted(top for top in folders if top in gone and folders[top] - changed[top] > slack)
        )

    def lost_before(self, below: str = "") -> tuple[str, ...]:  # noqa: ARG002
        """What is whole may be proven, and the rest every run is told of."""
        return ()

    def log_gaps(self) -> tuple[LogGap, ...]:
        """There is no daemon."""
        return ()

    def links_out(self) -> tuple[str, ...]:
        """Those that the run has found: of one that it made nothing is proven, see ``files``."""
        before = baseline.read(self._state.path)
        known = before.files if before is not None else {}
        found = self._walk().files
        return tuple(each.path for each in found if each.out and known.get(each.path) == each.stamp)

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

    def _clock_ahead(self) -> float:
        """By how many seconds the clock of the file system is ahead of ours."""
        name = f"{PROBE_NAME}{secrets.token_hex(8)}"
        problem, ahead = mount_io.clock_ahead(self._top, name, TRIAL_SECONDS)
        if problem:
            raise MountUnavailableError(
                f"{printable(self._top)} takes no file: {problem}.",
                hint=f"See whose it is, and what it lies on: ls -ld {self._top}; "
                f"findmnt --target {self._top}",
            )
        return ahead


def _told(
    walked: Walked, noted: Mapping[str, Written], cut_off: Mapping[str, CutOff]
) -> frozenset[str]:
    """Files of a save in which a run was killed, as they were when a run after it told of them.

    Their checkpoint is not finished, and nobody will ever prove it. At a step that no later run
    saves again they would be lost for each run anew.
    """
    finished = {
        top_of(found.path)
        for found in walked.files
        if found.path.rpartition("/")[2] == TRAINER_STATE
    }

    def is_told(found: Found) -> bool:
        known, word = cut_off.get(found.path), noted.get(found.path)
        return (
            known is not None
            and word is not None
            and known.told
            and known.stamp == found.stamp
            and (word.problem, word.at) == (UNFINISHED, known.at)
            and top_of(found.path) not in {"", *finished}
        )

    return frozenset(found.path for found in walked.files if is_told(found))


def _problem(found: Found, noted: Written | None, cut_off: CutOff | None) -> str:
    """Why nothing can be proven of a file as it is; ""."""
    if found.link:
        return LEADS_OUT if found.out else LINK
    if noted is None or not noted.problem:
        return ""
    # Until it is written anew, or another one takes its place: whoever runs next reads it, too.
    if noted.stamp:
        return noted.problem if noted.stamp == f"{found.inode:x}" else ""
    # A killed writer noted none. As long as the inode is the same, its own bytes may be in there.
    another = cut_off is not None and cut_off.at == noted.at and cut_off.inode != found.inode
    return "" if another else noted.problem


def _is_mountkits(found: Found) -> bool:
    """What mountkit puts there itself; and links to what is in the directory anyway."""
    name = found.path.rpartition("/")[2]
    draft = name.endswith(DRAFT) and name.startswith(
        (MANIFEST_NAME, LEASE_NAME, "mountkit-receipt-")
    )
    shortcut = found.link and not found.out and not top_of(found.path)
    return draft or shortcut or name == LEASE_NAME or is_own(found.path) or is_proof(found.path)
