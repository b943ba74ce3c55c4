"""The TrainerCallback. The only importer of transformers.

Facts about Trainer are from transformers 5.23, ``trainer.py`` and ``trainer_callback.py``.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from transformers import Trainer, TrainerCallback

from mountkit import doctor, writers
from mountkit.config import settings, timeouts
from mountkit.errors import UsageError
from mountkit.events import Observer, Problem, SaveBlocked, silent
from mountkit.mounts.mount import Mount
from mountkit.proof.committer import Prover
from mountkit.proof.local_copies import LocalCopies
from mountkit.training import (
    ranks,
    resume_loading,
    run_check,
    save_hooks,
    save_total_limit,
    search_runs,
)
from mountkit.training.pending_proof import PendingProof, settle_all
from mountkit.training.ranks import Ranks
from mountkit.training.save_total_limit import SaveTotalLimit
from mountkit.training.saves import Saves
from mountkit.training.shared_proof import SharedProof

if TYPE_CHECKING:
    from mountkit.events import Event
    from mountkit.training.trainer_hooks import Call

logger = logging.getLogger("mountkit")

OnFailure = Literal["raise", "warn"]


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
        self._run_folder = ""
        self._ranks = Ranks()
        self._proof = PendingProof()
        #: Those of the training in a mount that began last; None while there was none.
        self.saves: Saves | None = None
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
        if self._ranks.first:
            doctor.essential(mount)
        if self.saves is not None:
            # With auto_find_batch_size Trainer begins anew within one call of train.
            self.saves.leave()
        self._mount = mount
        copies = LocalCopies(mount, self._limits, self._tell)
        prover = Prover(mount, below, self._limits, self._tell, copies)
        if self._ranks.first:
            prover.store.check()
        layout, shared = self._ranks.layout, None
        if layout is not None:
            states = not args.save_only_model
            shared = SharedProof(
                mount, below, prover, self._limits, self._tell,
                ranks=self._ranks, layout=layout, states=states,
            )  # fmt: skip
        self.saves = Saves(
            mount, str(Path(mount.path) / below), prover, self._limits, self._tell,
            ranks=self._ranks, shared=shared, proof=self._proof,
            raises=self._on_failure == "raise",
        )  # fmt: skip
        save_hooks.watch(Trainer, CheckpointCallback)
        self.limit.take(args)
        if self._ranks.first:
            settle_all(lambda reason: self._tell(SaveBlocked(reason)))
            self.saves.descend(state.global_step, self.limit.value)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report a proof that failed; before a save, wait for the last proof and the mount."""
        if self.saves is not None:
            # With "best", Trainer decides on the save after the evaluation, and asks nobody then.
            maybe = control.should_evaluate and args.save_strategy == "best"
            self.saves.step_ended(state.global_step, expected=control.should_save or maybe)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The same, for saves at the end of an epoch."""
        self.on_step_end(args, state, control)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note what was saved. Callbacks after this one may still add files to it."""
        if self.saves is not None:
            self.saves.saved(state)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin the proof, where a Trainer of somebody's own did not tell that the save is over."""
        if self.saves is not None:
            self.saves.complete()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The same, after a save at the end of an epoch."""
        self.on_step_begin(args, state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait until the last checkpoint is proven.

        Raises
        ------
        MountkitError
            If it cannot be, unless ``on_failure`` is ``warn``.
        """
        if self.saves is not None:
            self.saves.finish(state)
        self.leave()

    def enter(self, trainer: Any, call: Call) -> None:
        """A training begins: with many ranks, all of them, and from one checkpoint."""
        self._ranks = ranks.meet(self._ranks, trainer.args, self._limits)
        said = self._ranks.enter(trainer, call)
        if said:
            self._tell(Problem(said))

    def leave(self) -> None:
        """The training has ended, well or with an error: its saves are no longer looked after."""
        if self.saves is not None:
            self.saves.leave()
        self.limit.give_back()
        self._ranks.leave()
        self._ranks = Ranks()

    def _tell(self, event: Event) -> None:
        if isinstance(event, Problem):
            logger.warning("mountkit: %s", event.reason)
        self._on_event(event)
