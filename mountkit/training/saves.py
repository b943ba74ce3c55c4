"""The saves of one training in a mount: what goes before each, and the proof that follows it."""

from __future__ import annotations

import functools
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mountkit.checkpoints import catalog
from mountkit.checkpoints.lineage import Clock
from mountkit.errors import MountkitError, MountUnavailableError, NotDurableError
from mountkit.events import Observer, Problem, SaveBlocked
from mountkit.training import state_errors
from mountkit.training.ranks import Ranks
from mountkit.training.retention import Retention, best_step
from mountkit.training.save_retry import SaveRetrier
from mountkit.training.saved_files import saved_files
from mountkit.training.stale_checkpoints import StaleCheckpoints

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount
    from mountkit.proof.committer import Prover
    from mountkit.proof.rank_receipts import Share
    from mountkit.training.pending_proof import PendingProof
    from mountkit.training.shared_proof import SharedProof

logger = logging.getLogger("mountkit")


class _Saved(NamedTuple):
    """A checkpoint that was saved: when that began, on the monotonic clock, and the best so far.

    ``at`` tells which of two was saved later (see ``lineage``).
    """

    step: int
    began: float
    best: int | None
    at: datetime
    share: Share | None = None


class Saves:
    """At most one is outstanding: the next one waits for its proof.

    Parameters
    ----------
    shared:
        This rank's part in the proofs, where many ranks save together.
    proof:
        The one under way; it may still be of the training before.
    raises:
        Whether a checkpoint that cannot be proven ends the training; else it is logged.
    """

    def __init__(
        self,
        mount: Mount,
        output_dir: str,
        prover: Prover,
        limits: Limits,
        observer: Observer,
        *,
        ranks: Ranks,
        shared: SharedProof | None,
        proof: PendingProof,
        raises: bool,
    ) -> None:
        self._mount = mount
        self._output_dir = output_dir
        self._prover = prover
        self._limits = limits
        self._observer = observer
        self._ranks = ranks
        self._shared = shared
        self._proof = proof
        self._raises = raises
        #: Who repeats a save that a lost mount broke.
        self.retrier = (
            shared.retrier
            if shared
            else SaveRetrier(mount, prover, limits, observer, path=self._path)
        )
        #: Whether Trainer saves on a signal just now, and whether it tells callbacks of a save.
        self.on_signal = self.tells = False
        #: Whether the training has ended, well or with an error.
        self.ended = False
        self._kept = Retention((), 0, None, observer)
        self._clock = Clock(())
        self._stale: StaleCheckpoints | None = None
        self._saved: _Saved | None = None
        self._began: float | None = None
        # The step that an event has announced, and the one that is not to be proven.
        self._announced, self._skipped = -1, -1
        # The one that was saved on a signal.
        self._signalled = -1
        # The one of which nobody has said that the callbacks after it are done, too.
        self._open = -1

    def descend(self, step: int, keep: int | None) -> None:
        """Take over what lies there already, in a training that begins at ``step``.

        ``keep``: ``save_total_limit``.
        """
        found = catalog.scan(self._prover.store)
        self._kept = Retention(found, step, keep, self._observer)
        self._clock = Clock(each.saved for each in found)
        self._stale = StaleCheckpoints(
            self._mount, self._output_dir, self.retrier, self._limits, self._observer,
            steps=[each.step for each in found], own=self._kept.own,
        )  # fmt: skip
        self._kept.announce(self._output_dir)

    def step_ended(self, step: int, *, expected: bool) -> None:
        """Report a proof that failed; before a save, wait for the last proof and the mount."""
        self.complete()
        self.close()
        if expected:
            self._began = time.monotonic()
            self._finish_proofs()
        self._agree(self._before_save, step, expected)

    def begin(self, step: int) -> bool:
        """Until it is proven again, a checkpoint that is written anew is none.

        False on a signal, if nobody said that it would be written, and this training has proven it,
        or was resumed from it: Trainer saves that very state again then, and must not put the
        proven one at risk. Its proof is waited for, where it is under way.
        """
        self.close()
        self._skipped = -1
        begin = functools.partial(self._begin, step)
        # World rank 0 decides; what one node cannot have proven, no node tries to.
        told = self._ranks.gather((self._ranks.together(begin), self._skipped))
        self._skipped = max(skipped for _, skipped in told)
        begins = told[0][0]
        if self._shared is not None and begins:
            self._shared.begin(step)
        self._open = step if begins else -1
        return begins

    def stays(self, step: int) -> bool:
        """Whether a save on a signal has nothing to do. Many ranks agree on it as they save."""
        return self._ranks.alone and self._is_proven(step)

    def saved_on_signal(self, state: Any) -> None:
        """Begin to prove a checkpoint of whose end no event tells.

        Many ranks do that at the end of their training.
        """
        if not self._ranks.alone or state.global_step == self._skipped:
            return
        self._announced, self._signalled = -1, state.global_step
        self._finish_proofs()
        self._agree(self._note, state.global_step, state)
        self.complete()

    def saved(self, state: Any) -> None:
        """Note what was saved. Other callbacks may still add files to it."""
        # What is saved at this step once more, on a signal, is not what was announced.
        self._announced = -1
        if self._shared is not None:
            self._shared.unannounced = -1
        if state.global_step == self._skipped:
            return
        self.complete()
        self._finish_proofs()
        self._agree(self._note, state.global_step, state)

    def complete(self) -> None:
        """Begin to prove the checkpoint that was saved, now that it has all of its files."""
        saved, self._saved = self._saved, None
        if saved is not None:
            self.close()
            self._agree(self._begin_proof, saved)

    def close(self) -> None:
        """The save that began last is over, with what other callbacks have added to it.

        Whoever is killed before that leaves a checkpoint that is not whole. What many ranks saved,
        each of them says of its own part.
        """
        step, self._open = self._open, -1
        if step >= 0 and self._shared is None and self.retrier.made:
            self._guard(self._mark, step)

    def _mark(self, step: int) -> None:
        top = self._path(f"checkpoint-{step}")
        self._mount.directory.ranks.done(top, self.retrier.made, 0)

    def _path(self, name: str) -> str:
        return self._mount.relative(Path(self._output_dir) / name)

    def finish(self, state: Any) -> None:
        """Wait until the last checkpoint is proven. Raises MountkitError if it cannot be."""
        step = -1 if self._shared is None else self._shared.unannounced
        if step >= 0:
            self._agree(self._note, step, state)
        self.complete()
        self.close()
        self._finish_proofs()

    def leave(self) -> None:
        """The training has ended: its saves are no longer repeated."""
        self.ended = True
        if self._shared is not None:
            self._shared.stop()
        self._ranks, self._shared = Ranks(), None

    def _begin(self, step: int) -> bool:
        if not self._ranks.first:
            return True
        # Anybody else who saves a step once more has something new to save.
        if self._is_proven(step) and (self.on_signal or step == self._signalled):
            self._skipped = step
            return False
        if self._kept.holds(step):
            self._withdraw(step)
        if self._stale is not None:
            self._clear(self._stale, step)
        return True

    def _is_proven(self, step: int) -> bool:
        """Whether a save that nobody announced has nothing to do: that very state is proven."""
        if self._proof.name == f"checkpoint-{step}":
            try:
                with state_errors.naming(self._mount):
                    self._proof.finish()
            except MountkitError as error:
                # What counts is the save that begins now, and its own proof.
                self._observer(Problem(error.message))
        return self._announced != step and step in self._kept.own and self._kept.holds(step)

    def _clear(self, stale: StaleCheckpoints, step: int) -> None:
        """Keep the files of an earlier training out of a save; without that it is not proven."""
        try:
            with state_errors.naming(self._mount):
                stale.clear(step)
        except (MountUnavailableError, NotDurableError) as error:
            if self._raises:
                raise
            self._skipped = step
            logger.warning("mountkit: checkpoint-%s is saved, and not proven: %s", step, error)

    def _withdraw(self, step: int) -> None:
        name = self._kept.forget(step)
        if name is not None:
            self._prover.withdraw(name)

    def _note(self, step: int, state: Any) -> None:
        self._withdraw(step)
        began = time.monotonic() if self._began is None else self._began
        self._began = None
        self._saved = _Saved(step, began, best_step(state), self._clock.now())

    def _begin_proof(self, saved: _Saved) -> None:
        name, files = f"checkpoint-{saved.step}", None
        share = None if self._shared is None else self._shared.done(saved.step)
        if share is None:
            files = saved_files(self._mount, Path(self._output_dir) / name, self._limits)
            if files is None:
                place = f"{self._output_dir}/{name}"
                self._observer(Problem(f"At step {saved.step} nothing was saved in {place}"))
                return
        if self._ranks.first:
            self._proof.begin(name, self._prove, name, files, saved._replace(share=share))

    def _prove(self, name: str, files: tuple[str, ...] | None, saved: _Saved) -> None:
        share = saved.share
        if files is None and share is not None and self._shared is not None:
            files = self._shared.files(name, share)
        self._prover.prove(
            name, saved.step, files or (), began=saved.began, saved=saved.at, share=share
        )
        self._kept.proved(saved.step, name)
        # The one that has begun since may go on from what this one would remove.
        if not self.ended:
            self._kept.enforce(self._prover, saved.step, saved.best)

    def _before_save(self, step: int, expected: bool) -> None:
        if not self._proof.under_way:
            self._proof.finish()
        if expected:
            self._mount.wait_until_serving(self._limits.repair)
            self._announced = step

    def _finish_proofs(self) -> None:
        if self._proof.under_way:
            self._observer(SaveBlocked(f"the save waits until {self._proof.name} is proven"))
        self._ranks.await_proofs(self._proof, give_up=self._raises)
        self._agree(self._finish_proof)

    def _finish_proof(self) -> None:
        # With many ranks it is another one's that has failed, if this one is still under way.
        if self._ranks.alone or not self._proof.under_way:
            self._proof.finish()

    def _guard(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do it; an error ends the training, or is logged."""
        try:
            with state_errors.naming(self._mount):
                work(*arguments)
        except MountkitError as error:
            if self._raises:
                raise
            logger.warning("mountkit: %s", error)

    def _agree(self, work: Callable[..., None], *arguments: Any) -> None:
        """The same on every rank: what ends the training on one of them ends it on all."""
        self._ranks.together(functools.partial(self._guard, work, *arguments))
