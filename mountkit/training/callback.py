"""The TrainerCallback. The only importer of transformers.

Facts about Trainer are from transformers 5.23, ``trainer.py`` and ``trainer_callback.py``.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from transformers import Trainer, TrainerCallback

from mountkit import backends, doctor, writers
from mountkit.checkpoints import catalog
from mountkit.checkpoints.lineage import Clock
from mountkit.config import settings, timeouts
from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    NotDurableError,
    UsageError,
)
from mountkit.events import Observer, Problem, SaveBlocked, silent
from mountkit.mounts import link_names, location, working_directory
from mountkit.mounts.mount import Mount
from mountkit.proof.committer import Prover
from mountkit.proof.local_copies import LocalCopies
from mountkit.training import (
    file_use,
    jit_checkpoint,
    requirements,
    save_end,
    save_retry,
    save_total_limit,
    search_runs,
    state_errors,
)
from mountkit.training.retention import Retention, best_step
from mountkit.training.save_retry import SaveRetrier
from mountkit.training.save_total_limit import SaveTotalLimit
from mountkit.training.stale_checkpoints import StaleCheckpoints

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mountkit.events import Event

logger = logging.getLogger("mountkit")

OnFailure = Literal["raise", "warn"]


class _Saved(NamedTuple):
    """A checkpoint that was saved: when that began, on the monotonic clock, and the best so far.

    ``at`` tells which of two was saved later (see ``lineage``).
    """

    step: int
    began: float
    best: int | None
    at: datetime


class CheckpointCallback(TrainerCallback):  # type: ignore[misc] # transformers ships no types
    """Prove every checkpoint in the store, beside the training, and keep the proven ones.

    Parameters
    ----------
    mount:
        What :func:`mountkit.mount` gave. Not needed under ``mountkit run`` or on a mount made by
        ``mountkit mount``: the one that covers ``args.output_dir`` is found. Where none does, the
        callback says so once and does nothing.
    on_failure:
        ``raise``: a checkpoint that cannot be proven ends the training with an error that names
        the file, what the store holds and what was expected. ``warn``: it is logged.
    on_event:
        Called from any thread with the values of :mod:`mountkit.events`.

    Notes
    -----
    ``save_total_limit`` is taken over from Trainer, which deletes old checkpoints before the new
    one could be proven and orders them by times that a bucket does not keep. Here it counts proven
    checkpoints by step, and never touches the newest proven one, the best one, or the one the
    training was resumed from. Trainer's arguments have it back when the training has ended.

    A training from the start descends from nothing that lies in ``output_dir``; one that was
    resumed, from the checkpoint it was resumed from and those before it. What else is there is
    another training's: it is named at the start. It counts within ``save_total_limit`` and goes
    before this training's own, after each proof; without a limit nothing goes. Once this training
    has proven one, ``latest`` gives none of the others.

    A save that is broken by a lost mount is made once more, as a whole: also what a Trainer of
    somebody's own does in its ``_save_checkpoint``.

    One save is outstanding at most: the next one waits for its proof.
    """

    def __init__(
        self,
        mount: Mount | None = None,
        *,
        on_failure: OnFailure = "raise",
        on_event: Observer = silent,
    ) -> None:
        if on_failure not in {"raise", "warn"}:
            raise UsageError(f"on_failure cannot be {on_failure!r}.", hint="Use 'raise' or 'warn'.")
        self._mount = mount
        self._on_failure = on_failure
        self._on_event = on_event
        self._limits = timeouts.limits(settings.load())
        self.limit = SaveTotalLimit()
        # RunLogCallback says so, where it is among the callbacks.
        self.events_are_mirrored = False
        self._prover: Prover | None = None
        self._output_dir = ""
        self._run_folder = ""
        self._save_retrier: SaveRetrier | None = None
        self._saving = -1
        self._saved: _Saved | None = None
        self._proof: Future[None] | None = None
        self._proving = ""
        self._began: float | None = None
        self._kept = Retention((), 0, None, self._tell)
        self._clock = Clock(())
        self._earlier: StaleCheckpoints | None = None
        self._skipped = -1
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mountkit-proof")
        self._watch()

    def _watch(self) -> None:
        save_total_limit.watch(Trainer, CheckpointCallback)
        search_runs.watch(Trainer, CheckpointCallback)

    def saves_below(self, folder: str) -> None:
        """The training that begins saves there: in ``output_dir``, or as a run of a search."""
        self._run_folder = folder

    def on_init_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Make weights save on a mount that cannot rename, also before and after a training."""
        self._watch()
        mount = self._mount or Mount.containing(args.output_dir)
        if mount is not None:
            writers.install(mount)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """See that this run will be able to save, and take over retention.

        Raises
        ------
        ConfigurationError
            If several processes train, since only one can be proven so far, or if the run does
            something to files that the mount cannot do.
        MountkitError
            If the store cannot be asked, or the mount does not serve or takes no file.
        """
        mount = self._mount or Mount.containing(args.output_dir)
        if mount is None:
            logger.warning(
                "mountkit: no mount covers %s; checkpoints stay on the local disk, unproven. "
                "To save into a bucket: mountkit run s3://BUCKET/PREFIX %s -- COMMAND",
                args.output_dir,
                args.output_dir,
            )
            return
        if args.world_size > 1:
            raise ConfigurationError(
                f"{args.world_size} processes train together; mountkit proves the checkpoints of "
                "one process so far, and would miss the files of the others.",
                hint="Train with one process, or leave CheckpointCallback out.",
            )
        backend = backends.load(mount.spec.backend)
        use = file_use.of(args, mount, events_are_mirrored=self.events_are_mirrored)
        requirements.refuse(use, backend.name, backend.unsupported_operations)
        writers.install(mount)
        mount.wait_until_serving(self._limits.repair)
        working_directory.refuse_below(mount.path, args.output_dir)
        # A link to this run's directory, perhaps; what is saved through it has the key behind it.
        below = location.followed(mount, mount.relative(self._run_folder or args.output_dir))
        self._output_dir = str(Path(mount.path) / below)
        doctor.essential(mount)
        self._mount = mount
        copies = LocalCopies(mount, self._limits, self._tell)
        self._prover = Prover(mount, below, self._limits, self._tell, copies)
        self._prover.store.check()
        self._save_retrier = SaveRetrier(mount, self._prover, self._limits, self._tell)
        save_retry.watch(Trainer, CheckpointCallback)
        save_end.watch(Trainer, CheckpointCallback)
        jit_checkpoint.watch(CheckpointCallback)
        # Of a training that broke off in a save, nobody knows whether that save is whole.
        self._saved = None
        found = catalog.scan(self._prover.store)
        self.limit.take(args)
        self._kept = Retention(found, state.global_step, self.limit.value, self._tell)
        self._clock = Clock(each.saved for each in found)
        self._earlier = StaleCheckpoints(
            mount,
            self._output_dir,
            self._save_retrier,
            self._limits,
            self._tell,
            steps=[each.step for each in found],
            own=self._kept.own,
        )
        self._kept.announce(self._output_dir)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report a proof that failed; before a save, wait for the last proof and the mount."""
        self.on_save_complete()
        # With "best", Trainer decides on the save after the evaluation, and asks nobody then.
        maybe = control.should_evaluate and args.save_strategy == "best"
        self._guard(self._before_save, state.global_step, control.should_save or maybe)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The same, for saves at the end of an epoch."""
        self.on_save_complete()
        maybe = control.should_evaluate and args.save_strategy == "best"
        self._guard(self._before_save, state.global_step, control.should_save or maybe)

    def save_retrier(self) -> SaveRetrier | None:
        """Who repeats a save that a lost mount broke; None outside a training in a mount."""
        return self._save_retrier

    def begin_save(self, step: int) -> bool:
        """Until it is proven again, a checkpoint that is written anew is none.

        False if nobody said that it would be written, and this training has proven it, or was
        resumed from it: on a signal Trainer saves that very state again, and must not put the
        proven one at risk. Its proof is waited for, where it is under way.
        """
        self._skipped = -1
        if self.stays(step):
            self._skipped = step
            return False
        if self._prover is not None and self._kept.holds(step):
            self._withdraw(self._prover, step)
        if self._earlier is not None:
            self._clear(self._earlier, step)
        return True

    def stays(self, step: int) -> bool:
        """Whether a save that nobody announced has nothing to do: that very state is proven."""
        if self._proving == f"checkpoint-{step}":
            try:
                with state_errors.naming(self._mount):
                    self._finish_proof()
            except MountkitError as error:
                # What counts is the save that begins now, and its own proof.
                self._tell(Problem(error.message))
        return self._saving != step and step in self._kept.own and self._kept.holds(step)

    def saved_on_signal(self, state: Any) -> None:
        """Begin to prove a checkpoint of whose end no event tells."""
        if self._prover is not None and state.global_step != self._skipped:
            self._saving = -1
            self._guard(self._finish_proof)
            self._guard(self._note, self._prover, state)
            self.on_save_complete()

    def _clear(self, earlier: StaleCheckpoints, step: int) -> None:
        """Keep the files of an earlier training out of a save; without that it is not proven."""
        try:
            with state_errors.naming(self._mount):
                earlier.clear(step)
        except (MountUnavailableError, NotDurableError) as error:
            if self._on_failure == "raise":
                raise
            self._skipped = step
            logger.warning("mountkit: checkpoint-%s is saved, and not proven: %s", step, error)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note what was saved. Callbacks after this one may still add files to it."""
        # What is saved at this step once more, on a signal, is not what was announced.
        self._saving = -1
        if self._prover is None or state.global_step == self._skipped:
            return
        self.on_save_complete()
        self._guard(self._finish_proof)
        self._guard(self._note, self._prover, state)

    def on_save_complete(self) -> None:
        """Begin to prove the checkpoint that was saved, now that it has all of its files."""
        saved, self._saved = self._saved, None
        if saved is not None:
            self._guard(self._begin_proof, saved)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin the proof, where a Trainer of somebody's own did not tell that the save is over."""
        self.on_save_complete()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The same, after a save at the end of an epoch."""
        self.on_save_complete()

    def _withdraw(self, prover: Prover, step: int) -> None:
        name = self._kept.forget(step)
        if name is not None:
            prover.withdraw(name)

    def _note(self, prover: Prover, state: Any) -> None:
        step = state.global_step
        self._withdraw(prover, step)
        began = time.monotonic() if self._began is None else self._began
        self._began = None
        self._saved = _Saved(step, began, best_step(state), self._clock.now())

    def _begin_proof(self, saved: _Saved) -> None:
        if self._prover is None or self._mount is None:
            return
        name = f"checkpoint-{saved.step}"
        files = self._list(self._mount, Path(self._output_dir) / name)
        self._proving = name
        self._proof = self._pool.submit(self._prove, self._prover, name, files, saved)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait until the last checkpoint is proven.

        Raises
        ------
        MountkitError
            If it cannot be, unless ``on_failure`` is ``warn``.
        """
        self.leave()
        self.on_save_complete()
        self._guard(self._finish_proof)

    def leave(self) -> None:
        """The training has ended, well or with an error: its saves are no longer looked after."""
        self._save_retrier = None
        self.limit.give_back()

    def _list(self, mount: Mount, top: Path) -> tuple[str, ...]:
        backend = backends.load(mount.spec.backend)
        if not backend.write_back:
            # Listed through the mount, it would be the store that is waited for.
            below = mount.relative(top)
            return tuple(file.path[len(below) + 1 :] for file in mount.control().files(below))
        try:
            return link_names.walk(top, backend.links)
        except OSError:
            # The daemon died just after the save; what was written waits in its cache.
            mount.wait_until_serving(self._limits.repair)
        try:
            return link_names.walk(top, backend.links)
        except OSError as error:
            bypassed = [path for path in mount.directory.bypassed.paths() if f"{top.name}/" in path]
            raise NotDurableError(
                f"{top} was saved and cannot be listed: {error.strerror}. "
                f"{len(bypassed)} files of it did not reach the mount.",
                hint=f"See what became of the mount: mountkit status {mount.path}",
            ) from error

    def _guard(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do it; an error ends the training, or is logged, as ``on_failure`` says."""
        try:
            with state_errors.naming(self._mount):
                work(*arguments)
        except MountkitError as error:
            if self._on_failure == "raise":
                raise
            logger.warning("mountkit: %s", error)

    def _before_save(self, step: int, expected: bool) -> None:
        if self._prover is None or self._mount is None:
            return
        if self._proof is not None and self._proof.done():
            self._finish_proof()
        if not expected:
            return
        self._began = time.monotonic()
        self._finish_proof()
        self._mount.wait_until_serving(self._limits.repair)
        self._saving = step

    def _finish_proof(self) -> None:
        proof = self._proof
        if proof is None:
            return
        if not proof.done():
            self._tell(SaveBlocked(f"the save waits until {self._proving} is proven"))
        # Bounded: the proof itself ends when nothing moves for the stall timeout.
        self._proof = None
        proof.result()

    def _prove(self, prover: Prover, name: str, files: tuple[str, ...], saved: _Saved) -> None:
        prover.prove(name, saved.step, files, began=saved.began, saved=saved.at)
        self._kept.proved(saved.step, name)
        self._kept.enforce(prover, saved.step, saved.best)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Problem):
            logger.warning("mountkit: %s", event.reason)
        self._on_event(event)
