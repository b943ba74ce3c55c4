"""The end of a mount: everything that was written through it is in the store, or is named."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.checkpoints import catalog, lineage
from mountkit.checkpoints.manifest import Manifest
from mountkit.checkpoints.verification import listing
from mountkit.errors import MountkitError, NotDurableError, Unproven, VerificationError
from mountkit.events import Observer, Problem
from mountkit.formatting import count, printable
from mountkit.mounts.shadowed_files import missed
from mountkit.names import MANIFEST_NAME, TRAINER_STATE, step_of, top_of
from mountkit.proof import symbolic_links
from mountkit.proof.asking_again import Endurance
from mountkit.proof.bypassed_report import astray
from mountkit.proof.committer import Prover
from mountkit.proof.completeness import is_complete, untold_gaps
from mountkit.proof.fencing import superseded
from mountkit.proof.hidden_objects import hidden, unseen
from mountkit.proof.lost_files import (
    evicted_unproven,
    missing_from_cache,
    removed_since_proven,
    told_and_gone,
)
from mountkit.proof.report import DrainReport, unknown, unreadable, written
from mountkit.proof.upload_waiter import UploadWaiter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Future
    from datetime import datetime

    from mountkit.backends.base import WrittenFile
    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount
    from mountkit.store.base import ObjectInfo

RETRY_SECONDS = 1.0
ROUNDS = 5
ROUNDS_UNPROVEN = 2
# Each reads its own files, in pieces, and has connections of its own.
TOGETHER = 4


def drain(mount: Mount, limits: Limits, observer: Observer, *, ended_well: bool) -> DrainReport:
    """Push, wait and prove: finished checkpoints get a manifest, every other file is attested.

    A store that is out of reach is waited for; the drain ends when nothing has moved for the
    stall timeout, or when the store refuses, and then names every file it could not settle.

    ``ended_well``: Whether what wrote the files says that it finished. A checkpoint counts as
    finished only with a ``trainer_state.json`` of its step. Otherwise, and for what an earlier run
    left in the cache, that has to be the newest of its files: Trainer writes it last.
    """
    # One moment for all of it, and not so long for each checkpoint and each of its waits.
    limits = limits.begun()
    work = _Drain(mount, limits, observer, ended_well=ended_well)
    endurance, said, rounds = Endurance(limits.stall), "", 1
    while True:
        result = work.attempt()
        if isinstance(result, DrainReport):
            # A change may be why a file is not proven; each round of those waits long, so one more.
            last = ROUNDS if result.complete else ROUNDS_UNPROVEN
            if not work.changed or rounds >= last:
                return work.end(result)
            # Something still writes; what it wrote meanwhile has its turn.
            rounds += 1
            work.ask_again()
            continue
        if endurance.ends(result, len(work.settled)) or limits.deadline.passed:
            return work.give_up(result)
        mount.directory.proof_stats.record_error(result.message)
        if result.message != said:
            observer(Problem(result.message))
            said = result.message
        time.sleep(RETRY_SECONDS)


@dataclass(frozen=True, slots=True)
class _Whole:
    """A finished checkpoint to prove, and the manifest that it has so far."""

    top: str
    step: int
    members: Sequence[WrittenFile]
    manifest: Manifest | None


class _Drain:
    """One drain, which may take several tries; what is settled stays settled."""

    def __init__(
        self, mount: Mount, limits: Limits, observer: Observer, *, ended_well: bool
    ) -> None:
        self.settled: set[str] = set()
        #: What changed during the last attempt that came to its end.
        self.changed: tuple[str, ...] = ()
        self._mount = mount
        self._limits = limits
        self._observer = observer
        self._ended_well = ended_well
        self._store = mount.store(patience=limits.patience, deadline=limits.deadline)
        self._provers: dict[str, Prover] = {}
        self._others: dict[str, tuple[datetime | None, ...]] = {}
        self._proven: list[str] = []
        self._unproven: dict[str, Unproven] = {}
        self._said: set[str] = set()
        self._removed: set[str] = set()
        self._gone: frozenset[str] = frozenset()
        self._unseen: set[ObjectInfo] = set()
        record = mount.last_record()
        self._began = record.began if record else 0.0
        self._adopted = frozenset(record.adopted if record else ())
        # Without a mount all that is told is to be proven: what was there before is told by itself,
        # and the clock that dates it may be another machine's.
        self._all = not backends.load(mount.spec.backend).mounts

    def _flush(self) -> None:
        """What was written through a mapping is only in memory, and lost with the mount."""
        problem = self._mount.flush(self._limits.deadline)
        if problem:
            self._observer(Problem(f"The mount at {self._mount.path} is not flushed: {problem}"))

    def _snapshot(self) -> dict[str, tuple[int, float, str]]:
        """Size, time and version of every file that was written."""
        return {file.path: file.stamp for file in written(self._mount)}

    def ask_again(self) -> None:
        """Files that changed while they were looked at have their turn once more."""
        tops = {*self.changed, *(top_of(path) for path in self.changed)}
        self.settled.difference_update(self.changed)
        self._unproven = {
            path: problem for path, problem in self._unproven.items() if path not in tops
        }

    def end(self, report: DrainReport) -> DrainReport:
        """The last report, with what something is still writing."""
        sizes = {path: report.seen[path][0] for path in self.changed}
        busy = [Unproven(path, sizes[path], "something is still writing it") for path in sizes]
        return replace(report, unproven=(*report.unproven, *busy))

    def attempt(self) -> DrainReport | MountkitError:
        """The report, or why there is none yet."""
        try:
            self._flush()
            before = self._snapshot()
            report = self._once()
            seen = self._snapshot()
        except MountkitError as error:
            return error
        except OSError as error:
            return unreadable(self._mount, error)
        self.changed = tuple(path for path in seen if seen[path] != before.get(path))
        return replace(report, seen=seen)

    def _once(self) -> DrainReport:
        files = written(self._mount)
        paths = [file.path for file in files]
        self._note(missing_from_cache(self._mount, paths, self._limits.deadline))
        self._pass_over(told_and_gone(self._mount, self._store, files))
        # One listing for all who ask what the bucket has, for it may be long. What they find in it
        # they ask about once more.
        caches = backends.load(self._mount.spec.backend).write_back
        listed = tuple(self._store.list()) if caches else ()
        # A proof has directories read anew, and then the mount shows what it hid.
        gone = unseen(self._mount, self._store, listed, paths, self._limits.deadline)
        self._unseen.update(gone)
        groups, loose = _group(files)
        whole: list[_Whole] = []
        bypassed = {top_of(bypassed_file.path) for bypassed_file in missed(self._mount)}
        loose = [file for file in loose if self._concerns(file)]
        for top, found in sorted(groups.items()):
            members = self._still_wanted(top, found)
            open_members = [file for file in members if file.path not in self.settled]
            if not any(self._concerns(file) for file in open_members):
                continue
            step = step_of(top.rpartition("/")[2])
            manifest = self._manifest(top)
            if manifest is not None and top in bypassed:
                # It was proven before the rest of it bypassed the mount.
                self._store.delete([f"{top}/{MANIFEST_NAME}"])
                manifest = None
            if manifest is not None and self._covers(manifest, top, members):
                self.settled.update(file.path for file in members)
                continue
            try:
                torn = top in bypassed or any(file.path in self._gone for file in members)
                whole_save = not torn and self._is_complete(top, step, members)
            except VerificationError as error:
                # One object of it, which cannot be read, is no reason to give up the others.
                self._note([Unproven(top, 0, error.message)])
                continue
            if step is None or not whole_save:
                self._observer(Problem(f"{top} is not a finished checkpoint: it gets no manifest"))
                loose.extend(file for file in members if self._concerns(file))
            else:
                whole.append(_Whole(top, step, members, manifest))
        self._prove_all(whole)
        self._attest(loose)
        self._name_left_over()
        self._note(evicted_unproven(self._mount, self._store, listed, paths))
        self._note(hidden(self._mount, self._store, self._unseen, paths, self._limits.deadline))
        self._note_links(listed, (file.path for file in files if self._concerns(file)))
        self._note(astray(self._mount))
        self._note(untold_gaps(self._mount))
        taken = superseded(self._mount, self._store)
        self._note(taken.unproven if taken else ())
        return self._report()

    def _pass_over(self, gone: Sequence[str]) -> None:
        """An earlier run has told of these files; a checkpoint that lacks one is torn."""
        if gone:
            which = f"{printable(gone[0])}, one of {count(len(gone))}"
            self._say(f"{which} that an earlier run proved or named, is in the bucket no more")
        self._gone = frozenset(gone)
        self._removed.update(gone)

    def _still_wanted(self, top: str, members: Sequence[WrittenFile]) -> Sequence[WrittenFile]:
        """Without what was proven to be in the bucket and removed there since."""
        asked = [file for file in members if self._concerns(file)]
        gone = removed_since_proven(self._mount, self._store, top, asked, self._began)
        if gone:
            self._say(f"{top} was proven by an earlier run, and was removed from the bucket since")
        self._removed.update(gone)
        return [file for file in members if file.path not in gone]

    def give_up(self, error: MountkitError) -> DrainReport:
        """Name everything that is not settled, and why."""
        whole = True
        try:
            self._note(
                Unproven(file.path, file.size, error.message)
                for file in written(self._mount)
                if file.path not in self.settled and self._concerns(file)
            )
        except (MountkitError, OSError) as problem:
            # Nobody knows which files those are: the mount stands for them.
            self._note([unknown(self._mount, problem)])
            whole = False
        self._note(astray(self._mount))
        if not self._unproven:
            self._note([Unproven(self._mount.path, 0, error.message)])
        return replace(self._report(), whole=whole)

    def _concerns(self, file: WrittenFile) -> bool:
        """Whether this run wrote it, or has to bring it to the store for one that died."""
        if file.path in self._gone:
            return False
        new = file.dirty or file.modified >= self._began
        return new or self._all or file.path in self._adopted

    def _prove_all(self, whole: Sequence[_Whole]) -> None:
        """Several at a time, for a proof mostly waits for the store; told of in their own order.

        Raises the first MountkitError that a proof ended with, once all that was under way has
        ended.
        """
        if not whole:
            return
        for each in whole:
            # One for all of a directory: to make a client of the store takes longer than a proof.
            below = each.top.rpartition("/")[0]
            if below not in self._provers:
                self._provers[below] = Prover(self._mount, below, self._limits, self._observer)
            if below not in self._others:
                self._others[below] = self._saved_by_others(below)
        failed: MountkitError | None = None
        with ThreadPoolExecutor(TOGETHER, thread_name_prefix="mountkit-prove") as pool:
            proofs = [pool.submit(self._prove, each) for each in whole]
            try:
                for each, proof in zip(whole, proofs, strict=True):
                    try:
                        problems = proof.result()
                    except CancelledError:
                        continue
                    except MountkitError as error:
                        failed = failed or error
                        _cancel(proofs)
                        continue
                    self._note(problems)
                    self._proven += [] if problems else [each.top]
                    self.settled.update(file.path for file in each.members)
            except BaseException:
                # An interrupt: what is under way ends as if the time were up.
                _cancel(proofs)
                self._limits.deadline.set(0.0)
                raise
        if failed is not None:
            raise failed

    def _prove(self, whole: _Whole) -> tuple[Unproven, ...]:
        """Prove one checkpoint; what is not proven of it. In a thread of its own."""
        below, _, name = whole.top.rpartition("/")
        cut = len(whole.top) + 1
        names = {file.path[cut:] for file in whole.members}
        names.update(found.path[cut:] for found in self._store.list(whole.top))
        try:
            # An older manifest stays until the new one replaces it: it may still be right.
            manifest = whole.manifest
            since = manifest.created.timestamp() if manifest else 0.0
            saved = self._saved(whole)
            self._provers[below].prove(
                name, whole.step, sorted(names), since=since, saved=saved, before=manifest
            )
        except (NotDurableError, VerificationError) as error:
            # A manifest that was damaged on its way is no file of this checkpoint, and names none.
            named = error.unproven if isinstance(error, NotDurableError) else ()
            return named or (Unproven(whole.top, 0, error.message),)
        return ()

    def _saved(self, whole: _Whole) -> datetime | None:
        """When a checkpoint was saved: its state is written last. See ``lineage``."""
        changed = {file.path: file.modified for file in whole.members}
        at = changed.get(f"{whole.top}/{TRAINER_STATE}")
        manifest = whole.manifest
        if manifest and (at is None or at <= manifest.created.timestamp()):
            # The save that was proven before, to which something was added.
            return manifest.saved
        at = max(changed.values()) if at is None else at
        if at < self._began:
            # An earlier run saved it, and a later one may have saved since.
            return lineage.after(at, at, ())
        return lineage.after(at, self._began, self._others[whole.top.rpartition("/")[0]])

    def _saved_by_others(self, below: str) -> tuple[datetime | None, ...]:
        """When each checkpoint of a directory was saved that this run did not save."""
        ours = {top_of(file.path) for file in written(self._mount) if self._new(file)}
        found = catalog.scan(self._provers[below].store)
        names = {each: "/".join(filter(None, (below, each.name))) for each in found}
        return tuple(each.saved for each in found if names[each] not in ours)

    def _new(self, file: WrittenFile) -> bool:
        return file.modified >= self._began

    def _attest(self, loose: Iterable[WrittenFile]) -> None:
        paths = [file.path for file in loose if file.path not in self.settled]
        outcome = UploadWaiter(self._mount, self._limits, self._observer).wait(paths)
        self._note(outcome.unproven)
        self._removed.update(outcome.removed)
        self.settled.update(paths)

    def _manifest(self, top: str) -> Manifest | None:
        try:
            data = self._store.get(f"{top}/{MANIFEST_NAME}")
            return None if data is None else Manifest.from_bytes(data)
        except VerificationError:
            # One that cannot be read makes no checkpoint; a new one replaces it.
            return None

    def _covers(self, manifest: Manifest, top: str, members: Iterable[WrittenFile]) -> bool:
        """Whether a manifest speaks for these files, and for the store, as they are now."""
        there = listing(self._store, top)
        for entry in manifest.files:
            found = there.get(entry.path)
            if found is None or found.size != entry.size or entry.etag not in {"", found.tag}:
                return False
        sizes = {entry.path: entry.size for entry in manifest.files}
        created = manifest.created.timestamp()
        return all(
            sizes.get(file.path[len(top) + 1 :]) == file.size
            and file.modified <= created
            and not file.dirty
            for file in members
        )

    def _is_complete(self, top: str, step: int | None, members: Sequence[WrittenFile]) -> bool:
        return step is not None and is_complete(
            self._mount, top, step, members, ended_well=self._ended_well, store=self._store
        )

    def _note_links(self, listed: Sequence[ObjectInfo], paths: Iterable[str]) -> None:
        """What a later mount would show as something else, or does not lead into the bucket."""
        written, deadline = sorted(paths), self._limits.deadline
        self._note(symbolic_links.doubtful(self._mount, self._store, listed, written, deadline))
        there = (info.path for info in listed)
        out = symbolic_links.leading_out(self._mount, self._store, there, written, deadline)
        for said in out:
            self._say(said)

    def _name_left_over(self) -> None:
        """What lies beside the data and is none: nobody should take it for some."""
        for path in self._mount.control().leftovers():
            self._say(
                f"{path} is left over from a save that could not rename it, and is part of no "
                "checkpoint: remove it"
            )

    def _say(self, text: str) -> None:
        """Tell it, once."""
        if text not in self._said:
            self._said.add(text)
            self._observer(Problem(text))

    def _note(self, problems: Iterable[Unproven]) -> None:
        for problem in problems:
            self._unproven.setdefault(problem.path, problem)

    def _report(self) -> DrainReport:
        files = len(self.settled - self._unproven.keys() - self._removed)
        return DrainReport(files, tuple(self._proven), tuple(self._unproven.values()))


def _cancel(proofs: Iterable[Future[tuple[Unproven, ...]]]) -> None:
    """Those that have not begun never do."""
    for proof in proofs:
        proof.cancel()


def _group(
    written: Iterable[WrittenFile],
) -> tuple[dict[str, list[WrittenFile]], list[WrittenFile]]:
    """Files by the checkpoint they belong to, and those that belong to none."""
    groups: dict[str, list[WrittenFile]] = {}
    loose = []
    for file in written:
        top = top_of(file.path)
        if top:
            groups.setdefault(top, []).append(file)
        else:
            loose.append(file)
    return groups, loose
