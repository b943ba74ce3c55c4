"""mountkit attached to each Trainer of this process: with no line of code in the script.

Facts about Trainer are from transformers 5.24: each of its loops, also one of somebody's own as
TRL's have, begins with ``CallbackHandler.on_train_begin``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import Trainer
from transformers.trainer_callback import CallbackHandler

from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    WrongNodeError,
)
from mountkit.linux import paths
from mountkit.mounts import working_directory
from mountkit.mounts.mount import Mount
from mountkit.training import resume_loading, save_total_limit, start
from mountkit.training.callback import CheckpointCallback
from mountkit.training.console import say
from mountkit.training.run_log import RunLogCallback
from mountkit.training.trainer_hooks import beneath

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.config.trainer_terms import TrainerTerms

# What keeps the callback from serving, and not the end of the run from proving.
NOT_SERVED = (ConfigurationError, MountUnavailableError, OSError)


class Attached(CheckpointCallback):
    """The callback of a script that has none: where it cannot serve, it steps aside."""

    def __init__(self, path: str, on_failure: Any) -> None:
        super().__init__(on_failure=on_failure)
        self._path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Serve this training, or say why not.

        Raises MountkitError if the store refuses it, unless ``on_failure`` is ``warn``;
        ConfigurationError if it would save past the mount, or past the run's first node.
        """
        # Nothing of it would reach the bucket, at the end neither.
        working_directory.refuse_below(self._path, args.output_dir)
        try:
            super().on_train_begin(args, state, control, **more)
        except (MountkitError, OSError) as error:
            passed_over = isinstance(error, NOT_SERVED) or self._on_failure == "warn"
            if isinstance(error, WrongNodeError) or not passed_over:
                raise
            self._step_aside()
            _tell(state, f"the checkpoints of {args.output_dir} are proven at the end: {error}")
        else:
            _tell(
                state,
                f"attached to the Trainer of {args.output_dir}: each checkpoint is proven while it "
                "trains",
            )

    def _step_aside(self) -> None:
        """Do nothing in this training: without its saves, no event has anything to do."""
        self.leave()
        self.saves = None


#: What a Trainer gets whose script has none of the kind: the callback that is asked for, and what
#: makes the one that is attached. Another callback is attached by one more line.
ATTACHED: tuple[tuple[type[Any], Callable[[TrainerTerms], Any]], ...] = (
    (CheckpointCallback, lambda terms: Attached(terms.path, terms.on_failure)),
    (RunLogCallback, lambda _: RunLogCallback()),
)


def attach(terms: TrainerTerms) -> None:
    """Have every Trainer of this process do what the terms say.

    Raises ConfigurationError if this Trainer has not the methods for it.
    """
    resume_loading.watch(Trainer)
    begun: set[str] = set()
    if terms.resume or terms.load_path:
        beneath(Trainer, "train", start.of(terms, begun))
    if not (terms.attach and terms.path):
        return
    given = _Given(terms, begun)
    beneath(CallbackHandler, "on_train_begin", given.on_train_begin)
    # By the first call of train, for it tells of the end of a training.
    save_total_limit.watch(Trainer, CheckpointCallback)


class _Given:
    """Gives callbacks to the Trainers whose ``output_dir`` lies in the mount."""

    def __init__(self, terms: TrainerTerms, begun: set[str]) -> None:
        self._terms = terms
        self._begun = begun
        self._made: list[Any] = []

    def on_train_begin(
        self,
        handler: Any,
        method: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """Add what is missing before the event goes to all callbacks."""
        args, state = arguments[:2]
        try:
            self._add(handler, args, state)
        except (MountkitError, OSError) as error:
            _tell(state, f"the checkpoints of {args.output_dir} are proven at the end: {error}")
        return method(*arguments, **options)

    def _add(self, handler: Any, args: Any, state: Any) -> None:
        inside = covers(self._terms.path, args.output_dir)
        if not inside:
            _tell(
                state,
                f"{args.output_dir} does not lie in the mount at {self._terms.path}: its "
                "checkpoints stay where they are, unproven",
            )
        asked = self._terms.resume or self._terms.load_path
        if inside and asked and paths.resolve(args.output_dir) not in self._begun:
            _tell(
                state,
                f"the Trainer of {args.output_dir} has a train() of its own, which --resume does "
                "not reach: it begins where that says",
            )
        for kind, make in ATTACHED:
            found = [each for each in handler.callbacks if isinstance(each, kind)]
            ours = [each for each in found if any(each is one for one in self._made)]
            if len(found) > len(ours) or not inside:
                # The script has added its own meanwhile, or saves elsewhere now.
                for each in ours:
                    handler.callbacks.remove(each)
            elif not ours:
                made = make(self._terms)
                self._made.append(made)
                # The last: what the others add in their on_save is of the checkpoint, too.
                handler.callbacks.append(made)
                if isinstance(made, RunLogCallback):
                    # It is told by a hook further out, which had nobody to tell yet.
                    made.prepare(handler.callbacks, args, state)


def covers(mount: str, output_dir: str) -> bool:
    """Whether a directory lies in the mount at ``mount``, and in none within that."""
    found = Mount.containing(output_dir)
    return found is not None and found.path == paths.resolve(mount)


def _tell(state: Any, text: str) -> None:
    if getattr(state, "is_world_process_zero", True):
        say(text)
