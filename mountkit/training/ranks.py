"""The ranks of a training: what they agree on, and which of them proves what.

Everything here is called in the main thread, by every rank at the same places: no collective is
called from a thread.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mountkit.errors import ConfigurationError
from mountkit.mounts import location
from mountkit.training.rank_group import Group, Told
from mountkit.training.rank_places import Place, layout
from mountkit.training.shared_signal import SharedSignal

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.checkpoints.receipt import Layout
    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount
    from mountkit.training.pending_proof import PendingProof
    from mountkit.training.trainer_hooks import Call

    Result = TypeVar("Result")
    Value = TypeVar("Value")

PROOF_PAUSE_SECONDS = 0.05


class Ranks:
    """The ranks of one training, as one of them sees them. Alone, it agrees with itself."""

    def __init__(self, group: Group | None = None) -> None:
        self._group = group
        self._layout: Layout | None = None
        self._saves = 0
        self._name = ""
        self._managers: tuple[Any, ...] = ()
        self._signal: SharedSignal | None = None

    @property
    def alone(self) -> bool:
        """Whether this process trains alone, or nobody has a mount."""
        return self._group is None

    @property
    def layout(self) -> Layout | None:
        """Who shares a mount with whom; None for one that is alone."""
        return self._layout

    @property
    def first(self) -> bool:
        """Whether this rank proves for those who share its mount."""
        return self._layout is None or self._layout.first

    def arrange(self, find: Callable[[], Mount | None], args: Any, limits: Limits) -> Mount | None:
        """Find the mount of this rank; tell each other where all save, and settle who proves what.

        Raises MountkitError on all ranks if it does on one, or if they cannot save together.
        """
        if self._group is None:
            return find()

        def place() -> tuple[Mount | None, Place]:
            mount = find()
            below = ""
            if mount is not None:
                mount.wait_until_serving(limits.repair)
                below = location.followed(mount, mount.relative(args.output_dir))
            return mount, Place.of(mount, below, args)

        mount, here = self.together(place)
        self._layout = layout(self._group.gather(here), self._group.rank)
        if self._layout is None:
            # There is nothing to agree on.
            self._group = None
            return None
        self._name = self._group.gather(uuid.uuid4().hex[:12])[0]
        if self._managers:
            self._signal = SharedSignal(self._managers, first=self._layout.first)
        return mount

    def enter(self, trainer: Any, call: Call) -> str:
        """A training begins, all ranks of it at once, and from one checkpoint; what changed."""
        if self._group is None:
            return ""
        # What saves on a signal of one rank does so on all, once it is known who they are.
        managers = [getattr(one, "jit_manager", None) for one in trainer.callback_handler.callbacks]
        self._managers = tuple(manager for manager in managers if manager is not None)
        asked = call.argument(0, "resume_from_checkpoint")
        same = _same_resume(asked, trainer.args.output_dir, self)
        if same == asked:
            return ""
        call.give(0, "resume_from_checkpoint", same)
        return f"Rank {self._group.rank} resumes from {same}, as rank 0 does, not from {asked}"

    def leave(self) -> None:
        """The training is over."""
        if self._signal is not None:
            self._signal.give_back()

    def next_save(self) -> str:
        """The name of the save that begins now, the same on all ranks."""
        self._saves += 1
        return f"{self._name}-{self._saves}"

    def settle(self, error: Exception | None) -> None:
        """Raise what any rank has to raise, on all of them."""
        if self._group is None:
            if error is not None:
                raise error
            return
        signal = self._signal
        failed, signalled = self._group.any(
            error is not None, signal is not None and signal.pending
        )
        if signalled and signal is not None:
            signal.agreed()
        if not failed:
            return
        told = self._group.gather(
            None if error is None else Told.by(self._group.rank, error),
        )
        if error is not None:
            raise error
        raise next(each for each in told if each is not None).error()

    def together(self, work: Callable[[], Result]) -> Result:
        """Do this rank's part; an error of any rank is raised on all of them."""
        error: Exception | None = None
        result: Any = None
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001 - raised again once all have heard of it
            error = raised
        self.settle(error)
        return result  # type: ignore[no-any-return] # without an error it is the work's

    def await_proofs(self, proof: PendingProof, *, give_up: bool) -> None:
        """Wait until no rank has a proof under way; with ``give_up``, or one has failed.

        All ask each other while they wait: who waited alone would not hear of a rank that is gone.
        """
        while self._group is not None:
            under_way, failed = self._group.any(proof.under_way, proof.failed)
            if not under_way or (failed and give_up):
                return
            time.sleep(PROOF_PAUSE_SECONDS)

    def gather(self, value: Value) -> list[Value]:
        """The value of every rank, by rank."""
        return [value] if self._group is None else self._group.gather(value)

    def agree_on_step(self, step: int) -> None:
        """See that all have resumed at one step. Raises ConfigurationError on all if not."""
        steps = self.gather(step)
        if len(set(steps)) > 1:
            told = ", ".join(f"rank {rank} at {each}" for rank, each in enumerate(steps))
            raise ConfigurationError(
                f"The ranks begin at different steps: {told}.",
                hint="Give all of them the same resume_from_checkpoint.",
            )


def meet(so_far: Ranks, args: Any, limits: Limits) -> Ranks:
    """The ranks of a training that begins; those of ``so_far``, if they have met for it."""
    if args.world_size == 1 or not so_far.alone:
        return so_far
    return Ranks(Group(limits))


def _same_resume(asked: object, output_dir: str, ranks: Ranks) -> object:
    """What to resume from: where the ranks were told different things, what rank 0 was told.

    A checkpoint below ``output_dir`` is the same one on a node that mounts elsewhere.
    """
    top = os.path.realpath(output_dir)
    name = asked
    if isinstance(asked, str):
        path = os.path.realpath(asked)
        name = os.path.relpath(path, top) if path.startswith(f"{top}/") else path
    found = ranks.gather(name or None)
    if all(each == found[0] for each in found):
        return asked
    leads = found[0]
    if not isinstance(leads, str):
        return leads
    return leads if Path(leads).is_absolute() else str(Path(output_dir) / leads)
