"""The TrainerCallback. The only importer of transformers.

Facts about Trainer are from transformers 5.23, ``trainer.py`` and ``trainer_callback.py``.
"""

from __future__ import annotations

import functools
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from transformers import Trainer, TrainerCallback

from mountkit import doctor, writers
from mountkit.checkpoints import catalog
from mountkit.checkpoints.lineage import Clock
from mountkit.config import settings, timeouts
from mountkit.errors import (
    MountkitError,
    MountUnavailableError,
    NotDurableError,
    UsageError,
)
from mountkit.events import Observer, Problem, SaveBlocked, silent
from mountkit.mounts.mount import Mount
from mountkit.proof.committer import Prover
from mountkit.proof.local_copies import LocalCopies
from mountkit.training import (
    jit_checkpoint,
    ranks,
    resume_loading,
    run_check,
    save_end,
    save_retry,
    save_total_limit,
    search_runs,
    state_errors,
)
from mountkit.training.pending_proof import PendingProof
from mountkit.training.ranks import Ranks
from mountkit.training.retention import Retention, best_step
from mountkit.training.save_retry import SaveRetrier
from mountkit.training.save_total_limit import SaveTotalLimit
from mountkit.training.saved_files import saved_files
from mountkit.training.shared_proof import SharedProof
from mountkit.training.stale_checkpoints import StaleCheckpoints

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mountkit.events import Event
    from mountkit.proof.rank_receipts import Share
    from mountkit.training.trainer_hooks import Call

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
    share: Share | None = None


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

    With many ranks each of them has the callback. The first of those that share a mount proves what
    they saved, and world rank 0 writes the manifest. An error of one is raised on all of them.
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
        self._ranks = Ranks()
        self._shared: SharedProof | None = None
        self._saving = -1
        self._saved: _Saved | None = None
        self._proof = PendingProof()
        self._began: float | None = None
        self._kept = Retention((), 0, None, self._tell)
        self._clock = Clock(())
        self._earlier: StaleCheckpoints | None = None
        self._skipped = -1
        self._watch()

    def _watch(self) -> None:
        save_total_limit.watch(Trainer, CheckpointCallback)
        search_runs.watch(Trainer, CheckpointCallback)
        resume_loading.watch(Trainer)

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
            If the run does something to files that the mount cannot do, or if the ranks of it
            cannot save one checkpoint together.
        MountkitError
            If the store cannot be asked, or the mount does not serve or takes no file.
        """
        self._ranks = ranks.meet(self._ranks, args, self._limits)
        mount = self._ranks.arrange(lambda: self._find(args), args, self._limits)
        if mount is None:
            logger.warning(run_check.LOCAL, args.output_dir, args.output_dir)
            return
        self._ranks.agree_on_step(state.global_step)
        self._ranks.together(functools.partial(self._take_over, args, state, mount))

    def _find(self, args: Any) -> Mount | None:
        mount = self._mount or Mount.containing(args.output_dir)
        run_check.refuse_node(args, mount)
        return mount

    def _take_over(self, args: Any, state: Any, mount: Mount) -> None:
        below = run_check.check(
            args, mount, self._limits, self._run_folder, mirrored=self.events_are_mirrored
        )
        self._output_dir = str(Path(mount.path) / below)
        if self._ranks.first:
            doctor.essential(mount)
        self._mount = mount
        copies = LocalCopies(mount, self._limits, self._tell)
        self._prover = Prover(mount, below, self._limits, self._tell, copies)
        if self._ranks.first:
            self._prover.store.check()
        self._save_retrier = SaveRetrier(mount, self._prover, self._limits, self._tell)
        layout = self._ranks.layout
        if layout is not None:
            states = not args.save_only_model
            self._shared = SharedProof(
                mount, below, self._prover, self._limits, self._tell,
                ranks=self._ranks, layout=layout, states=states,
            )  # fmt: skip
            self._save_retrier = self._shared.retrier
        save_retry.watch(Trainer, CheckpointCallback)
        save_end.watch(Trainer, CheckpointCallback)
        jit_checkpoint.watch(CheckpointCallback)
        # Of a training that broke off in a save, nobody knows whether that save is whole.
        self._saved = None
        self.limit.take(args)
        if not self._ranks.first:
            return
        found = catalog.scan(self._prover.store)
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
        expected = self._prover is not None and (control.should_save or maybe)
        if expected:
            self._began = time.monotonic()
            self._finish_proofs()
        self._agree(self._before_save, state.global_step, expected)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The same, for saves at the end of an epoch."""
        self.on_step_end(args, state, control)

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
        begin = functools.partial(self._begin_save, step)
        # World rank 0 decides; what one node cannot have proven, no node tries to.
        told = self._ranks.gather((self._ranks.together(begin), self._skipped))
        self._skipped = max(skipped for _, skipped in told)
        if self._shared is not None and told[0][0]:
            self._shared.begin(step)
        return told[0][0]

    def _begin_save(self, step: int) -> bool:
        if not self._ranks.first:
            return True
        if self._is_proven(step):
            self._skipped = step
            return False
        if self._prover is not None and self._kept.holds(step):
            self._withdraw(self._prover, step)
        if self._earlier is not None:
            self._clear(self._earlier, step)
        return True

    def _is_proven(self, step: int) -> bool:
        """Whether a save that nobody announced has nothing to do: that very state is proven."""
        if self._proof.name == f"checkpoint-{step}":
            try:
                with state_errors.naming(self._mount):
                    self._proof.finish()
            except MountkitError as error:
                # What counts is the save that begins now, and its own proof.
                self._tell(Problem(error.message))
        return self._saving != step and step in self._kept.own and self._kept.holds(step)

    def stays(self, step: int) -> bool:
        """Whether a save on a signal has nothing to do. Many ranks agree on it as they save."""
        return self._ranks.alone and self._is_proven(step)

    def saved_on_signal(self, state: Any) -> None:
        """Begin to prove a checkpoint of whose end no event tells.

        Many ranks do that at the end of their training.
        """
        if not self._ranks.alone or self._prover is None or state.global_step == self._skipped:
            return
        self._saving = -1
        self._finish_proofs()
        self._agree(self._note, self._prover, state.global_step, state)
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
        if self._shared is not None:
            self._shared.unannounced = -1
        if self._prover is None or state.global_step == self._skipped:
            return
        self.on_save_complete()
        self._finish_proofs()
        self._agree(self._note, self._prover, state.global_step, state)

    def on_save_complete(self) -> None:
        """Begin to prove the checkpoint that was saved, now that it has all of its files."""
        saved, self._saved = self._saved, None
        if saved is not None:
            self._agree(self._begin_proof, saved)

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

    def _note(self, prover: Prover, step: int, state: Any) -> None:
        self._withdraw(prover, step)
        began = time.monotonic() if self._began is None else self._began
        self._began = None
        self._saved = _Saved(step, began, best_step(state), self._clock.now())

    def _begin_proof(self, saved: _Saved) -> None:
        if self._prover is None or self._mount is None:
            return
        name, files = f"checkpoint-{saved.step}", None
        share = None if self._shared is None else self._shared.done(saved.step)
        if share is None:
            files = saved_files(self._mount, Path(self._output_dir) / name, self._limits)
            if files is None:
                place = f"{self._output_dir}/{name}"
                self._tell(Problem(f"At step {saved.step} nothing was saved in {place}"))
                return
        if self._ranks.first:
            share_of = saved._replace(share=share)
            self._proof.begin(name, self._prove, self._prover, name, files, share_of)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait until the last checkpoint is proven.

        Raises
        ------
        MountkitError
            If it cannot be, unless ``on_failure`` is ``warn``.
        """
        step = -1 if self._shared is None else self._shared.unannounced
        if self._prover is not None and step >= 0:
            self._agree(self._note, self._prover, step, state)
        self.on_save_complete()
        self._finish_proofs()
        self.leave()

    def enter(self, trainer: Any, call: Call) -> None:
        """A training begins: with many ranks, all of them, and from one checkpoint."""
        self._ranks = ranks.meet(self._ranks, trainer.args, self._limits)
        said = self._ranks.enter(trainer, call)
        if said:
            self._tell(Problem(said))

    def leave(self) -> None:
        """The training has ended, well or with an error: its saves are no longer looked after."""
        self._save_retrier = None
        self.limit.give_back()
        if self._shared is not None:
            self._shared.stop()
        self._ranks.leave()
        self._ranks, self._shared = Ranks(), None

    def _guard(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do it; an error ends the training, or is logged, as ``on_failure`` says."""
        try:
            with state_errors.naming(self._mount):
                work(*arguments)
        except MountkitError as error:
            if self._on_failure == "raise":
                raise
            logger.warning("mountkit: %s", error)

    def _agree(self, work: Callable[..., None], *arguments: Any) -> None:
        """The same on every rank: what ends the training on one of them ends it on all."""
        self._ranks.together(functools.partial(self._guard, work, *arguments))

    def _before_save(self, step: int, expected: bool) -> None:
        if self._prover is None or self._mount is None:
            return
        if not self._proof.under_way:
            self._proof.finish()
        if expected:
            self._mount.wait_until_serving(self._limits.repair)
            self._saving = step

    def _finish_proofs(self) -> None:
        if self._proof.under_way:
            self._tell(SaveBlocked(f"the save waits until {self._proof.name} is proven"))
        self._ranks.await_proofs(self._proof, give_up=self._on_failure == "raise")
        self._agree(self._finish_proof)

    def _finish_proof(self) -> None:
        # With many ranks it is another one's that has failed, if this one is still under way.
        if self._ranks.alone or not self._proof.under_way:
            self._proof.finish()

    def _prove(
        self, prover: Prover, name: str, files: tuple[str, ...] | None, saved: _Saved
    ) -> None:
        share = saved.share
        if files is None and share is not None and self._shared is not None:
            files = self._shared.files(name, share)
        prover.prove(name, saved.step, files or (), began=saved.began, saved=saved.at, share=share)
        self._kept.proved(saved.step, name)
        self._kept.enforce(prover, saved.step, saved.best)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Problem):
            logger.warning("mountkit: %s", event.reason)
        self._on_event(event)
