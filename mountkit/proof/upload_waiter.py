"""Files on their way to the store: push them, and ask the store until it attests each one.

Steps 2 to 4 of the protocol. The daemon's own word (its queue, its cache) only says when to ask;
it is never the proof.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.checkpoints.attestation import attest_object, missing
from mountkit.checkpoints.manifest import FileEntry
from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    NotDurableError,
    PermissionDeniedError,
    TimeUpError,
    Unproven,
    VerificationError,
)
from mountkit.events import Observer, Problem, UploadProgress
from mountkit.formatting import printable
from mountkit.proof.asking_again import Refusals
from mountkit.store import checksums, refusal_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mountkit.backends.base import Pending, Reference, WrittenFile
    from mountkit.checkpoints.attestation import FileVerdict
    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount
    from mountkit.store.base import Attestation

WORKERS = 8
# So many at a time where one listing tells of them all.
LISTED = 1000
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.5
# How long the store may show an older object, or none, after the daemon says it has uploaded.
SETTLE_SECONDS = 15.0
TIME_UP = "the time was up before it was proven"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a set of files, each in exactly one of the three.

    ``removed`` are those that a program removed while it had them open.
    """

    proven: tuple[FileEntry, ...]
    unproven: tuple[Unproven, ...]
    removed: tuple[str, ...] = ()


class UploadWaiter:
    """The files of one mount on their way to its store."""

    def __init__(self, mount: Mount, limits: Limits, observer: Observer) -> None:
        self._mount = mount
        self._limits = limits
        self._observer = observer
        self._control = mount.control(limits.deadline)
        self._store = mount.store(patience=limits.patience, deadline=limits.deadline)
        self._together = LISTED if self._store.lists_checksums else WORKERS * 4

    def wait(
        self,
        paths: Iterable[str],
        below: str = "",
        proven: Callable[[FileEntry], None] | None = None,
    ) -> Outcome:
        """Push and ask until the store attests every path, or no progress is made any more.

        ``paths``: Files relative to the mount, closed by whoever wrote them. ``below``: The
        directory that holds them all. ``proven``: Called once for each file, from any thread, as it
        is attested.

        Raises PermissionDeniedError if the store refuses the daemon's credentials: waiting would
        not help.
        """
        work = _Work(self._mount.spec.backend, self._limits, sorted(paths), below)
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="mountkit-attest") as pool:
            while work.open and not work.should_stop():
                work.look(self._look(work))
                # A store out of reach is not asked for thousands of files in turn.
                for batch in _batches(work.askable, self._together):
                    seen = [self._listed(batch)] * len(batch)
                    for entry, problem in pool.map(self._ask, [work] * len(batch), batch, seen):
                        if entry is not None:
                            work.done(entry)
                            if proven is not None:
                                proven(entry)
                        elif problem is not None:
                            work.failed(problem)
                    if work.trouble or self._limits.deadline.passed:
                        break
                if work.open:
                    waiting = work.open
                    size = sum(work.sizes.get(path, 0) for path in waiting)
                    self._observer(UploadProgress(len(waiting), size))
                    time.sleep(work.pause())
        return work.outcome()

    def _look(self, work: _Work) -> tuple[Pending | None, Sequence[WrittenFile]]:
        pending = None
        try:
            pending = self._control.flush_uploads()
        except MountUnavailableError as error:
            work.trouble = error.message
        else:
            for path, text in pending.errors:
                if path not in work.open:
                    continue
                message = f"The upload of {printable(path)} failed: {text}"
                self._mount.directory.proof_stats.record_error(message)
                if work.errors.get(path) != text:
                    self._observer(Problem(message))
                self._raise_if_refused(work, path, text)
        files = self._control.files(work.below)
        # Bytes that were taken away leave the same record, but the mount still shows the file.
        gone = sorted(file.path for file in files if file.gone and file.path in work.unasked)
        if gone:
            work.unasked.difference_update(gone)
            work.drop(self._mount.missing(gone, self._limits.deadline))
        return pending, files

    def _raise_if_refused(self, work: _Work, path: str, text: str) -> None:
        may_pass = refusal_in(self._mount.spec.source, text)
        # Of its own queue: the store may be asked for the same file, and let that be.
        what = f"the upload of {path}"
        if may_pass is None:
            work.refusals.over(what)
        elif work.refusals.final(what, may_pass):
            raise PermissionDeniedError(
                f"The store refuses the upload of {printable(path)}: {text}",
                hint="Correct the credentials or their rights, then check: mountkit status",
            )

    def _listed(self, paths: Sequence[str]) -> Mapping[str, Attestation | None]:
        """What a listing says of all of them, where it tells checksums; else nothing."""
        if not self._store.lists_checksums:
            return {}
        try:
            return self._store.stat_many(paths)
        except MountkitError:
            # Each is asked for then, which says what is wrong, and with which.
            return {}

    def _ask(
        self, work: _Work, path: str, listed: Mapping[str, Attestation | None]
    ) -> tuple[FileEntry | None, Unproven | None]:
        size = work.sizes.get(path, 0)
        try:
            reference = work.references.get(path) or self._control.reference(path)
            if reference is None:
                return None, Unproven(path, size, "its bytes as written are gone: no comparison")
            work.references[path] = reference
            work.sizes[path] = size = reference.digest.size
            if path in listed and listed[path] is None:
                verdict = missing(path, size)
            else:
                verdict = attest_object(
                    self._store,
                    path,
                    reference.digest,
                    reference.local,
                    attestation=listed.get(path),
                    deadline=self._limits.deadline,
                )
        except TimeUpError:
            # What was said of it before stays the reason, if anything was.
            return None, None
        except OSError as error:
            return None, Unproven(path, size, f"it cannot be read back: {error.strerror}")
        except VerificationError as error:
            # Its object was replaced or removed while it was read. The next round asks once more.
            work.references.pop(path, None)
            return None, Unproven(path, size, error.message)
        except (ConfigurationError, PermissionDeniedError) as error:
            if work.refusals.final(path, error.may_pass):
                # It has been asked for long enough: nobody has to do so once more.
                error.may_pass = 0.0
                raise
            self._tell(work, error)
            return None, None
        except (MountUnavailableError, NotDurableError) as error:
            # The store is ill or out of reach: no verdict. The stall timeout bounds the wait.
            self._tell(work, error)
            return None, None
        work.refusals.over(path)
        if verdict.problem is not None:
            # Written again since the reference was taken? The next round takes a new one.
            work.references.pop(path, None)
            return None, Unproven(path, size, describe(verdict))
        return _entry(path, reference, verdict), None

    def _tell(self, work: _Work, error: MountkitError) -> None:
        self._mount.directory.proof_stats.record_error(error.message)
        if not work.trouble:
            self._observer(Problem(error.message))
        work.trouble = error.message


class _Work:
    """What is known of the files so far, and when to stop hoping. Reads clocks, does no I/O."""

    def __init__(self, backend: str, limits: Limits, paths: Sequence[str], below: str) -> None:
        self.below = below
        self._nameless = {path: reason for path in paths if (reason := renamed(path, backend))}
        self.open: set[str] = {path for path in paths if path not in self._nameless}
        self.unasked = set(self.open)
        self.askable: list[str] = []
        self.references: dict[str, Reference] = {}
        self.sizes: dict[str, int] = {}
        self.errors: dict[str, str] = {}
        self.trouble = ""
        self.refusals = Refusals()
        self._limits = limits
        self._order = list(paths)
        self._entries: dict[str, FileEntry] = {}
        self._problems: dict[str, Unproven] = {}
        self._removed: set[str] = set()
        self._complained: dict[str, float] = {}
        self._open_elsewhere: dict[str, float] = {}
        self._compared: set[str] = set()
        self._sent = 0
        self._began = self._progress = time.monotonic()
        self._pause = FIRST_PAUSE_SECONDS

    def look(self, seen: tuple[Pending | None, Sequence[WrittenFile]]) -> None:
        """Take in what the daemon and its cache say; decide which files to ask the store for."""
        pending, files = seen
        busy: set[str] = {file.path for file in files if file.dirty}
        self.sizes.update({file.path: file.size for file in files})
        if pending is not None:
            self.trouble = ""
            for path, reason in pending.lost:
                if path in self.open:
                    self._give_up(path, reason)
            busy.update(pending.waiting)
            for path in busy:
                self._complained.pop(path, None)
            # Dirty and in no queue: somebody has it open, or closed it just now.
            now = time.monotonic()
            open_elsewhere = busy.difference(pending.waiting)
            self._open_elsewhere = {
                path: self._open_elsewhere.get(path, now) for path in open_elsewhere
            }
            # A file that is tried again has no error just now, and did not come through either.
            self.errors.update(pending.errors)
            if pending.sent != self._sent and not pending.errors:
                self._sent = pending.sent
                self._note_progress()
        # rclone's record of two files that had one name may stay dirty: the bytes decide, once.
        long = {path for path in self._long(self._open_elsewhere) if path not in self._compared}
        self._compared |= long
        self.askable = [
            path for path in self._order if path in self.open and (path not in busy or path in long)
        ]

    def _long(self, since: Mapping[str, float]) -> set[str]:
        """Those of which nothing is to be hoped for any more by themselves."""
        settle = min(SETTLE_SECONDS, self._limits.stall / 2)
        now = time.monotonic()
        return {path for path, at in since.items() if now - at > settle}

    def _give_up(self, path: str, reason: str) -> None:
        self.open.discard(path)
        self._problems[path] = Unproven(path, self.sizes.get(path, 0), reason)

    def done(self, entry: FileEntry) -> None:
        """The store attested a file."""
        self.open.discard(entry.path)
        self.errors.pop(entry.path, None)
        self._entries[entry.path] = entry
        self._note_progress()

    def drop(self, paths: Iterable[str]) -> None:
        """They were removed: nobody misses them in the store."""
        self._removed.update(self.open.intersection(paths))
        self.open.difference_update(paths)

    def failed(self, problem: Unproven) -> None:
        """The store was asked and does not (yet) hold the file as written."""
        if problem.path in self._open_elsewhere:
            # It has bytes that wait for its close, which is all there is to say.
            return
        self._problems[problem.path] = problem
        self._complained.setdefault(problem.path, time.monotonic())

    def pause(self) -> float:
        """Seconds until the next look: short after progress, then longer."""
        self._pause = min(self._pause * 1.5, LONGEST_PAUSE_SECONDS)
        return self._pause

    def should_stop(self) -> bool:
        """Whether to stop: nothing moves, the time is up, or all that is left is wrong for good."""
        now = time.monotonic()
        if now - self._progress > self._limits.stall or self._limits.over(self._began):
            return True
        open_elsewhere = self._long(self._open_elsewhere) & self._compared
        return bool(self.open) and self.open <= open_elsewhere | self._long(self._complained)

    def outcome(self) -> Outcome:
        """Each file, proven or with the reason why not."""
        unproven = []
        for path in self._order:
            if path in self._entries or path in self._removed:
                continue
            if path in self._nameless:
                reason = self._nameless[path]
                unproven.append(Unproven(path, self.sizes.get(path, 0), reason))
                continue
            problem = self._problems.get(path)
            open_elsewhere = (
                "a program still has it open; close it" if path in self._open_elsewhere else ""
            )
            reasons = (
                problem.reason if problem else open_elsewhere,
                self.errors.get(path),
                self.trouble,
            )
            text = "; ".join(filter(None, reasons)) or self._unfinished()
            unproven.append(Unproven(path, self.sizes.get(path, 0), text))
        proven = tuple(self._entries[path] for path in self._order if path in self._entries)
        return Outcome(proven, tuple(unproven), tuple(sorted(self._removed)))

    def _unfinished(self) -> str:
        late = self._limits.over(self._began)
        return TIME_UP if late else "its upload did not finish"

    def _note_progress(self) -> None:
        self._progress = time.monotonic()
        self._pause = FIRST_PAUSE_SECONDS


def _batches(paths: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(paths), size):
        yield paths[start : start + size]


def keeps_its_name(path: str) -> bool:
    """Whether rclone, and the stores behind it, give a file back under the same name (F39).

    rclone's standard encoding lists a control character as a symbol for it; a key is UTF-8.
    """
    return not any(
        ord(character) < 32 or ord(character) == 127 or "\ud800" <= character <= "\udfff"
        for character in path
    )


def renamed(path: str, backend: str) -> str:
    """Why a file would not be found again under its name (F39), or ""."""
    if not keeps_its_name(path):
        return "its name holds a control character, or a symbol for one, or is not UTF-8; rename it"
    if not backends.load(backend).keeps(path):
        return f"{backend} stores a name with U+201B or a control symbol as another one; rename it"
    return ""


def describe(verdict: FileVerdict) -> str:
    """What the store holds and what was expected, in words."""
    if verdict.problem == "missing":
        return f"the store does not have it; expected {verdict.expected}"
    return f"the store holds {verdict.found}; expected {verdict.expected}"


def _entry(path: str, reference: Reference, verdict: FileVerdict) -> FileEntry:
    return FileEntry(
        path=path,
        size=reference.digest.size,
        crc64nvme=reference.digest.values[checksums.REFERENCE],
        reference=reference.taken,
        attested_by=verdict.attested_by,
        etag=verdict.etag,
    )
