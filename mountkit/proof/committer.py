"""Make a directory a checkpoint: prove each file in the store, then write the manifest, last."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.checkpoints import retention
from mountkit.checkpoints.manifest import FileEntry, Manifest
from mountkit.checkpoints.verification import listing, verify_file
from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    NotDurableError,
    PermissionDeniedError,
    Unproven,
)
from mountkit.events import CheckpointProven, FileProven, Observer, Problem, ProofStarted
from mountkit.mounts.disk_space import shortage
from mountkit.mounts.shadowed_files import missed
from mountkit.names import MANIFEST_NAME, is_proof
from mountkit.proof import fencing, symbolic_links
from mountkit.proof.asking_again import Endurance
from mountkit.proof.bypassed_report import explained
from mountkit.proof.completeness import LACKS_LINES, missing_from_log, straddles
from mountkit.proof.rank_receipts import NodeReceipts
from mountkit.proof.report import not_proven
from mountkit.proof.upload_waiter import UploadWaiter
from mountkit.state.proof_stats import Proven

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount
    from mountkit.proof.local_copies import LocalCopies
    from mountkit.proof.rank_receipts import Share

RETRY_SECONDS = 1.0
REWRITES = 5
REMOVALS = 5


class Prover:
    """Proves checkpoints below one directory of a mount (``output_dir``, relative to it).

    With ``copies``, what is proven gives back the room that it takes on this machine.
    """

    def __init__(
        self,
        mount: Mount,
        below: str,
        limits: Limits,
        observer: Observer,
        copies: LocalCopies | None = None,
    ) -> None:
        self._mount = mount
        self._copies = copies
        self._below = below
        self._observer = observer
        self._limits = limits
        self._uploads = UploadWaiter(mount, limits, observer)
        # Of the checkpoint that was proven last: the next one takes about as much.
        self._last_size = 0
        self.store = mount.store(below, limits.patience, limits.deadline)

    def withdraw(self, name: str) -> None:
        """Delete the manifest of a checkpoint that is about to be written again, or removed.

        Raises NotDurableError if another writer has the run: the checkpoint may be all it has.
        """
        self._refuse_superseded()
        if self._copies is not None:
            self._copies.forget(self._path(name))
        self._patiently(lambda: self.store.delete([f"{name}/{MANIFEST_NAME}"]))

    def _refuse_superseded(self) -> None:
        found: list[NotDurableError | None] = []
        self._patiently(lambda: found.append(fencing.superseded(self._mount, self.store)))
        if found[-1] is not None:
            raise found[-1]

    def _patiently(self, request: Callable[[], None]) -> None:
        """Make a request; again while the store is out of reach, within the stall timeout.

        And when what was sent arrived damaged: a bit that flipped on the way does so once. And when
        it was refused in a way that may pass, for as long as it may.
        """
        began = time.monotonic()
        endurance = Endurance(self._limits.stall, (MountUnavailableError, NotDurableError))
        while (problem := _problem_of(request)) is not None:
            if endurance.ends(problem, 0) or self._limits.over(began):
                problem.may_pass = 0.0
                raise problem
            self._observer(Problem(problem.message))
            time.sleep(RETRY_SECONDS)

    def begin(self, name: str) -> None:
        """A checkpoint is about to be saved: nothing of an earlier try counts any more.

        Where that cannot be noted, it still counts: then this one may not be proven, and is no
        worse for it.
        """
        try:
            self._mount.directory.bypassed.begin(self._path(name))
        except (ConfigurationError, OSError) as error:
            self._observer(Problem(f"That {name} is saved now cannot be noted: {error}"))
        if self._copies is not None:
            self._copies.make_room(name, self._last_size)
        self._mount.directory.ranks.forget(self._path(name))
        short = shortage(self._mount, name, self._last_size)
        if short:
            self._observer(Problem(short))

    def prove(
        self,
        name: str,
        step: int,
        files: Sequence[str],
        *,
        began: float | None = None,
        since: float = 0.0,
        saved: datetime | None = None,
        before: Manifest | None = None,
        share: Share | None = None,
    ) -> Manifest:
        """Prove every file of a checkpoint and commit it.

        Parameters
        ----------
        name:
            The checkpoint's directory, ``checkpoint-30``.
        step:
            Its global step.
        files:
            All its files, relative to that directory.
        began:
            When the save began, on the monotonic clock, in seconds; now, if not given.
        since:
            Files that did not change after this moment, in seconds since the epoch, were proven
            before, and are not part of this save.
        saved:
            Which of two checkpoints was saved later (see ``lineage``).
        before:
            The manifest that it has. It still speaks for an object that is the same one and whose
            file is not on this machine any more.
        share:
            What this node's part of it is, where many ranks saved it; all of them are done here.

        Raises NotDurableError, naming the files that the store has not attested; no manifest is
        written; PermissionDeniedError if the store refuses the uploads.
        """
        started = time.monotonic() if began is None else began
        top = self._path(name)
        try:
            manifest = self._commit(name, step, files, started, since, saved, before, share)
        except MountkitError as error:
            self._mount.directory.proof_stats.failed(error.message)
            if share is not None:
                self._receipts(share).tell(name, step, error)
            raise
        self._mount.directory.ranks.forget(top)
        proven = Proven(top, step, manifest.created.isoformat())
        self._mount.directory.proof_stats.proved(proven)
        if self._copies is not None:
            self._copies.proven(top, manifest)
        self.refresh(name)
        size = self._last_size = sum(entry.size for entry in manifest.files)
        seconds = time.monotonic() - started
        self._observer(CheckpointProven(step, len(manifest.files), size, seconds))
        return manifest

    def _commit(
        self,
        name: str,
        step: int,
        files: Sequence[str],
        started: float,
        since: float,
        saved: datetime | None,
        before: Manifest | None,
        share: Share | None,
    ) -> Manifest:
        fencing.refuse_lost(self._mount)
        top = self._path(name)
        left_over = {path[len(top) + 1 :] for path in self._mount.control().leftovers(top)}
        written = {*files, *self._unfinished(top)} - left_over
        listed = sorted(path for path in written if not is_proof(path))
        follows = share is not None and not share.layout.leads
        self._refuse_strays(top)
        self._refuse_torn(top, since)
        self._refuse_links(top, listed)
        if not follows:
            _refuse_empty(top, listed)
        self._observer(ProofStarted(step, len(listed)))

        def proven(entry: FileEntry) -> None:
            path = entry.path[len(top) + 1 :]
            seconds = time.monotonic() - started
            self._observer(FileProven(step, path, entry.size, entry.attested_by, seconds))

        known = self._still_proven(name, before)
        asked = [f"{top}/{path}" for path in listed if path not in known]
        cut = len(top) + 1
        attested = self._attest(top, asked, proven)
        entries = [replace(entry, path=entry.path[cut:]) for entry in attested]
        entries += [known[path] for path in listed if path in known]
        self._refuse_strays(top)
        self._refuse_links(top, listed)
        if share is not None and follows:
            return self._receipts(share).deliver(name, step, entries)
        if share is not None:
            entries = [*self._receipts(share).collect(name, step, entries, sorted(left_over))]
        # All of them may have been removed while they were open.
        _refuse_empty(top, entries)
        writer = fencing.current(self._mount, self._limits)
        manifest = Manifest(
            step=step,
            created=datetime.now(UTC),
            source=self._mount.spec.source.child(top).url,
            files=tuple(sorted(entries, key=lambda entry: entry.path)),
            saved=saved,
            epoch=writer.epoch if writer else None,
            run=writer.run if writer else "",
        )
        path, replaces = f"{name}/{MANIFEST_NAME}", before is not None
        self._patiently(
            lambda: fencing.write_manifest(self.store, path, manifest, replaces=replaces)
        )
        if share is not None:
            self._receipts(share).clean(name)
        return manifest

    def _receipts(self, share: Share) -> NodeReceipts:
        return NodeReceipts(self.store, self._below, share, self._limits, self._observer)

    def _still_proven(self, name: str, before: Manifest | None) -> dict[str, FileEntry]:
        """What an earlier manifest says of objects that are the same, and not on this machine."""
        if before is None:
            return {}
        here = {file.path for file in self._mount.control().files(self._path(name))}
        there = listing(self.store, name)

        def same(entry: FileEntry) -> bool:
            found = there.get(entry.path)
            if found is None or found.size != entry.size:
                return False
            # A store without tags is read from.
            return (
                found.tag == entry.etag
                if entry.etag
                else verify_file(self.store, name, entry, found).ok
            )

        gone = [entry for entry in before.files if self._path(f"{name}/{entry.path}") not in here]
        return {entry.path: entry for entry in gone if same(entry)}

    def _unfinished(self, top: str) -> Iterator[str]:
        """Files of which only the backend knows: they failed, and the mount does not show them."""
        for file in self._mount.control().files(top):
            if file.dirty:
                yield file.path[len(top) + 1 :]

    def _attest(
        self, top: str, paths: Sequence[str], proven: Callable[[FileEntry], None]
    ) -> list[FileEntry]:
        """Attest the files; those that were written again meanwhile, once more."""
        found: dict[str, FileEntry] = {}
        ask = list(paths)
        for _ in range(REWRITES):
            before = self._snapshot(top)
            outcome = self._uploads.wait(ask, top, proven)
            if outcome.unproven:
                raise not_proven(top, outcome.unproven)
            found.update({entry.path: entry for entry in outcome.proven})
            now = self._snapshot(top)
            ask = [path for path in paths if now.get(path) != before.get(path)]
            if not ask:
                # What was removed while a program had it open is no file of the checkpoint.
                return [found[path] for path in paths if path in found]
        raise not_proven(top, [Unproven(path, 0, "it is still being written") for path in ask])

    def _snapshot(self, top: str) -> dict[str, tuple[int, float, str]]:
        return {file.path: file.stamp for file in self._mount.control().files(top)}

    def remove(self, name: str) -> bool:
        """Delete a checkpoint: its manifest first, then its files in the mount and the store.

        Returns whether it is gone; not while the mount is being repaired.

        Raises PermissionDeniedError if the store refuses.
        """
        if not self._mount.serving():
            self._observer(Problem(f"{name} stays for now: the mount is being repaired"))
            return False
        self.withdraw(name)
        # Before anything goes: whoever is killed on the way must not leave files that are missed.
        self._mount.directory.bypassed.note_removed(self._path(name))
        if backends.load(self._mount.spec.backend).write_back:
            try:
                # Through the mount, so that the local cache gives the room back too. Another node
                # may remove the same files at the same time: then what is left is tried again.
                for _ in range(REMOVALS):
                    with contextlib.suppress(FileNotFoundError):
                        shutil.rmtree(Path(self._mount.path) / self._below / name)
                        break
            except OSError as error:
                self._observer(Problem(f"{name} stays in the cache for now: {error}"))
        self._patiently(lambda: retention.remove(self.store, name))
        self.refresh("")
        return True

    def refresh(self, name: str) -> None:
        """Let the mount show what was written to the store beside it."""
        path = self._path(name)
        try:
            self._mount.control(self._limits.deadline).invalidate_directory(path)
        except MountUnavailableError as error:
            # Only what ``ls`` shows is late by the directory cache's minute.
            self._observer(Problem(error.message))

    def _path(self, name: str) -> str:
        return "/".join(part for part in (self._below, name) if part)

    def _refuse_strays(self, top: str) -> None:
        bypassed = [
            bypassed_file
            for bypassed_file in missed(self._mount)
            if bypassed_file.path.startswith(f"{top}/")
        ]
        if bypassed:
            raise not_proven(
                top, [explained(self._mount, bypassed_file) for bypassed_file in bypassed]
            )

    def _refuse_links(self, top: str, listed: Sequence[str]) -> None:
        """A checkpoint is whole by itself: nothing in it may lead to what is not."""
        cut = len(self._below) + 1 if self._below else 0
        found = symbolic_links.refused(
            self._mount,
            top,
            [f"{top}/{path}" for path in listed],
            lambda path: self.store.get(path[cut:]),
            self._limits.deadline,
        )
        if found:
            raise not_proven(top, found)

    def _refuse_torn(self, top: str, since: float) -> None:
        """A file that was being written when the daemon died may be short, and nobody told.

        safetensors swallows an error of close, and a mended cache holds the file as far as it
        came. A loss of the mount after the first and before the last change of these files means
        that the save was under way.
        """
        record = self._mount.last_record()
        files = self._mount.control().files(top)
        # Nor is what an earlier try has left, and this one has not written.
        since = max(since, self._mount.directory.bypassed.save_started_at().get(top, 0.0))
        changed = [file.modified for file in files if file.modified > since]
        if record is not None and straddles(record.lost, changed):
            raise NotDurableError(
                f"The mount was lost while {top} was being saved; its files may be torn.",
                hint="Save it again, or resume from the last proven one: mountkit latest "
                f"{self._mount.path}",
                unproven=(Unproven(top, 0, "the mount was lost while it was being saved"),),
            )
        if missing_from_log(self._mount, changed):
            log = str(self._mount.directory.log)
            raise NotDurableError(
                f"{log} lacks lines of the time in which {top} was saved, as where its disk was "
                "full: a part of it may have been refused.",
                hint="Make room there, or set MOUNTKIT_STATE_DIR to a directory on another disk; "
                f"then save it again: df -h {self._mount.directory.path}",
                unproven=(Unproven(log, 0, LACKS_LINES),),
            )


def _refuse_empty(top: str, files: Sequence[object]) -> None:
    if not files:
        raise NotDurableError(
            f"{top} holds no file; there is nothing to prove.",
            hint="See what the save wrote, and whether it failed.",
            unproven=(Unproven(top, 0, "an empty directory"),),
        )


def _problem_of(request: Callable[[], None]) -> MountkitError | None:
    """Why the store could not do it just now; None if it did what it was asked."""
    try:
        request()
    except (MountUnavailableError, NotDurableError) as error:
        return error
    except (ConfigurationError, PermissionDeniedError) as error:
        if not error.may_pass:
            raise
        return error
    return None
