"""What a Mountpoint mount holds. There is no cache: what was closed well is in the store.

What was written is known from the daemon's log, and from the journal of our own writers.
"""

from __future__ import annotations

import errno
import re
import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from mountkit.backends import log_gaps
from mountkit.backends.base import Pending, Reference, WrittenFile
from mountkit.backends.mountpoint import upload_log
from mountkit.errors import MountUnavailableError
from mountkit.formatting import printable
from mountkit.linux import mount_io
from mountkit.names import PROBE_NAME, RUN_LOGS, SAME_SAVE_SECONDS, TRAINER_STATE, is_own, top_of
from mountkit.state.bypassed_files import over
from mountkit.state.mount_directory import StateDirectory
from mountkit.state.write_journal import UNFINISHED, Journal
from mountkit.store import checksums, open_store
from mountkit.store.base import ObjectChangedError, ObjectMissingError
from mountkit.store.checksums import Digester, FileDigest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from mountkit.backends.base import LogGap
    from mountkit.backends.mountpoint.upload_log import Uploaded, Uploads
    from mountkit.spec import MountSpec, Source, StoreOptions
    from mountkit.state.record import MountRecord
    from mountkit.state.write_journal import Written
    from mountkit.store.base import Store
    from mountkit.timing import Deadline

LOOK_SECONDS = 10.0
# The file that safetensors writes to and renames then, by Rust's tempfile: six random characters.
TEMPORARY = re.compile(r"\.tmp[A-Za-z0-9]{6}")
# A stack of retries of its own may be behind the answer to the first upload.
TRIAL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of the files of a mount, by path."""

    done: Mapping[str, Uploaded]
    open: Mapping[str, float]
    lost: Mapping[str, tuple[float, str]]
    told: frozenset[str]
    journal: Mapping[str, Written]


class MountpointControl:
    """One Mountpoint mount, seen through its log, its store and the journal of our writers."""

    def __init__(
        self,
        spec: MountSpec,
        directory: Path,
        store: Store | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self._spec = spec
        self._state = StateDirectory(directory)
        top = f"{spec.source.prefix}/" if spec.source.prefix else ""
        # Where the path begins in a key.
        self._cut = len(top)
        self._log = upload_log.of(self._state.log, top)
        self._journal = Journal(directory)
        self._deadline = deadline
        self._given = store
        self._last: _Known | None = None

    @property
    def _store(self) -> Store:
        return self._given or _connected(self._spec.source, self._spec.store, self._deadline)

    def self_check(self) -> None:
        """See that the mount takes a file, and that its log tells of it."""
        name = f"{PROBE_NAME}{secrets.token_hex(8)}"
        problem = mount_io.write(self._spec.target, name, TRIAL_SECONDS)
        if problem:
            reason = self.explain(name) or problem
            raise MountUnavailableError(
                f"The mount at {self._spec.target} takes no file: {reason}.",
                hint="Correct that, or use --backend rclone. More on it: mountkit doctor "
                f"{self._spec.source.url}",
            )
        if self._spec.source.key(name) not in self._log.read().seen:
            raise MountUnavailableError(
                f"This mount-s3 does not log what it uploads in a way that mountkit knows: "
                f"{self._state.log}.",
                hint="Use another version of mount-s3, or --backend rclone.",
            )

    def flush_uploads(self) -> Pending:
        """Open again what is being uploaded, which waits for an upload that was put off."""
        known = self._know()
        if known.open:
            seconds = LOOK_SECONDS if self._deadline is None else self._deadline.cut(LOOK_SECONDS)
            mount_io.reopen(self._spec.target, tuple(known.open), seconds)
        return Pending(lost=tuple((path, reason) for path, (_, reason) in known.lost.items()))

    def files(self, below: str = "") -> tuple[WrittenFile, ...]:
        """What was uploaded since the mount was made, what is under way, and what failed."""
        known = self._know()
        found = {
            path: WrittenFile(path, done.size, done.at, False, done.etag)
            for path, done in known.done.items()
        }
        for path, at in known.open.items():
            found[path] = WrittenFile(path, 0, at, dirty=True)
        for path, (at, _) in known.lost.items():
            found[path] = WrittenFile(path, 0, at, dirty=True)
        return tuple(found[path] for path in sorted(found) if _in(path, below))

    def _know(self) -> _Known:
        """Look anew; ``reference`` uses what was seen last, for it is asked for every file."""
        self._last = self._look()
        return self._last

    def _look(self) -> _Known:
        try:
            return self._account()
        except OSError as error:
            raise MountUnavailableError(
                f"What was written through the mount at {self._spec.target} cannot be read: "
                f"{error}.",
                hint=f"See what became of it: ls -la {self._state.path}",
            ) from error

    def _account(self) -> _Known:
        uploads = self._log.read()
        journal = self._journal.read()
        done = {key[self._cut :]: upload for key, upload in uploads.done.items()}
        anew, removed = self._state.bypassed.save_started_at(), self._state.bypassed.removed()
        record = self._state.last()
        lost: dict[str, tuple[float, str]] = {}
        told = set()
        # Of one file each of them may tell of another loss, at another time.
        for path, at, reason in self._losses(uploads, journal, done):
            # A trial of a mount that was lost in the middle of it holds nothing.
            if _is_mountkits(path) or over(path, at, removed) or over(path, at, anew):
                continue
            if _is_told(path, at, reason, record):
                told.add(path)
            else:
                lost.setdefault(path, (at, reason))
        return _Known(
            {
                path: upload
                for path, upload in done.items()
                if path not in lost
                and not _is_mountkits(path)
                and not _is_left_over(path, uploads.said)
                and not over(path, upload.at, removed)
            },
            {key[self._cut :]: at for key, at in uploads.open.items() if not _is_mountkits(key)},
            lost,
            frozenset(told - lost.keys()),
            journal,
        )

    def _losses(
        self, uploads: Uploads, journal: Mapping[str, Written], done: Mapping[str, Uploaded]
    ) -> Iterator[tuple[str, float, str]]:
        """What was lost, when, and why, by the log and our own writers; a file may come twice."""
        for key, failed in uploads.failed.items():
            yield key[self._cut :], failed.at, f"its upload failed: {failed.reason}"
        for path, entry in journal.items():
            # The daemon never hears of a file that could not be opened, or of a full disk here.
            later = max(entry.at, done[path].at) if path in done else entry.at
            # And what a killed writer left open is uploaded when the kernel closes it.
            if entry.problem and (later == entry.at or entry.problem == UNFINISHED):
                yield path, entry.at, entry.problem
        for path, refused in uploads.refused.found.items():
            if not is_own(path):
                yield path, refused.at, refused.reason

    def explain(self, path: str) -> str:
        """Why the last operation on a file failed, by the daemon's log; "" if it does not say."""
        uploads = self._log.read()
        failed = uploads.failed.get(self._spec.source.key(path))
        return failed.reason if failed else uploads.said.get(path.rpartition("/")[2], "")

    def last_error(self) -> tuple[float, str] | None:
        """Of the files that are lost, the last; one that is being written may still arrive."""
        lost = self._look().lost.items()
        found = [(at, f"{printable(path)}: {why}") for path, (at, why) in lost if why != UNFINISHED]
        return max(found, default=None)

    def reference(self, path: str) -> Reference | None:
        """Taken while it was written, if mountkit wrote it.

        Otherwise of what the daemon uploaded, which took the checksum of every byte before it sent
        them: the checksum that the store confirmed, or the bytes read back.
        """
        known = self._last or self._know()
        upload, entry = known.done.get(path), known.journal.get(path)
        if upload is None:
            return None
        # Ours ends with the daemon's word that it is uploaded, and our line comes after that.
        if entry is not None and not entry.problem and entry.at >= upload.at:
            values = {checksums.REFERENCE: entry.crc64nvme}
            return Reference(FileDigest(entry.size, values), "write")
        attestation = self._store.stat(path)
        if attestation is None:
            raise FileNotFoundError(errno.ENOENT, "the store does not have it", path)
        if (attestation.tag, attestation.size) != (upload.etag, upload.size):
            # Changed since, or emptied by a store that does not rename.
            raise OSError(errno.ESTALE, "the store has another object than was uploaded", path)
        value = attestation.whole(checksums.REFERENCE)
        if value:
            return Reference(FileDigest(attestation.size, {checksums.REFERENCE: value}), "mount")
        return Reference(self._read_back(path), "mount")

    def _read_back(self, path: str) -> FileDigest:
        digester = Digester()
        try:
            for chunk in self._store.chunks(path):
                digester.update(chunk)
        except ObjectMissingError as error:
            raise FileNotFoundError(errno.ENOENT, "the store does not have it", path) from error
        except ObjectChangedError as error:
            reason = "the store has another object than was uploaded"
            raise OSError(errno.ESTALE, reason, path) from error
        return digester.result()

    def content(self, path: str) -> bytes | None:  # noqa: ARG002
        """It keeps nothing; the store has it."""
        return None

    def reconcile_leftovers(
        self, quarantine: Path, outdated: Iterable[str], missing: Iterable[str]
    ) -> None:
        """Nothing waits on this machine."""

    def partially_deleted(self, below: str = "") -> tuple[str, ...]:
        """By the log, which tells of every file that was removed through the mount."""
        uploads = self._log.read()
        found = set()
        for key, at in uploads.gone.items():
            checkpoint = top_of(key[self._cut :])
            state = uploads.done.get(self._spec.source.key(f"{checkpoint}/{TRAINER_STATE}"))
            if state is not None and at - state.at > SAME_SAVE_SECONDS:
                found.add(checkpoint)
        return tuple(sorted(path for path in found if _in(f"{path}/", below)))

    def lost_before(self, below: str = "") -> tuple[str, ...]:
        """By its log and the journal, which go on from one run to the next until all is proven."""
        return tuple(sorted(path for path in self._look().told if _in(path, below)))

    def log_gaps(self) -> tuple[LogGap, ...]:
        """It tells of what was uploaded, what was not, and what was refused."""
        return log_gaps.of(self._state.log, upload_log.FORMAT).read()

    def links_out(self) -> tuple[str, ...]:
        """It shows none."""
        return ()

    def leftovers(self, below: str = "") -> tuple[str, ...]:
        """What safetensors wrote and neither renamed nor removed, by the log and its name."""
        uploads = self._log.read()
        found = (key[self._cut :] for key in uploads.done if _is_left_over(key, uploads.said))
        return tuple(sorted(path for path in found if _in(path, below)))

    def emptied(self, directory: str) -> float:
        """By the log. A directory is gone with the last file below it."""
        gone, top = self._log.read().gone, f"{self._spec.source.key(directory)}/"
        return max((at for key, at in gone.items() if key.startswith(top)), default=0.0)

    def repair_cache(self, quarantine: Path) -> tuple[str, ...]:  # noqa: ARG002
        """A killed Mountpoint leaves nothing to mend."""
        return ()

    def evict(self, files: Iterable[WrittenFile]) -> tuple[str, ...]:  # noqa: ARG002
        """There are no local copies."""
        return ()

    def purge(self) -> None:
        """There are no local copies."""

    def invalidate_directory(self, directory: str) -> None:
        """The mount lists the store anew each time."""


@lru_cache(maxsize=32)
def _connected(source: Source, options: StoreOptions, deadline: Deadline | None) -> Store:
    """One client a place and a deadline: making one takes longer than a request."""
    return open_store(source, options, deadline=deadline)


def _in(path: str, below: str) -> bool:
    return not below or path.startswith(f"{below}/")


def _is_told(path: str, at: float, reason: str, record: MountRecord | None) -> bool:
    """Whether an earlier run has named it, or its checkpoint is known to be unfinished by that."""
    if record is None or at >= record.began:
        return False
    # In the middle of a checkpoint's save, which then is not whole, and is saved again; or of a
    # copy of the run's logs, of which the next run makes another.
    again = bool(top_of(path)) or RUN_LOGS in path.split("/")[:-1]
    cut_off = reason.endswith((UNFINISHED, upload_log.CUT_SHORT))
    return (cut_off and again) or at < record.told_until


def _is_left_over(path: str, refused: Mapping[str, str]) -> bool:
    """Whether it has such a name, and an operation on a file of that name was refused."""
    name = path.rpartition("/")[2]
    return TEMPORARY.fullmatch(name) is not None and name in refused


def _is_mountkits(path: str) -> bool:
    return path.rpartition("/")[2].startswith(PROBE_NAME)
