"""Where ``Trainer.train`` begins, under ``mountkit run --resume`` and ``--load-path``.

The decision is :mod:`mountkit.training.resume_point`; here are the questions to the store, and what
is done about the answer.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mountkit.config import settings, timeouts
from mountkit.linux import paths
from mountkit.mounts.mount import Mount
from mountkit.mounts.newest_checkpoint import newest_checkpoint
from mountkit.training import pending_proof, ranks, resume_point, start_weights
from mountkit.training.console import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.config.trainer_terms import TrainerTerms
    from mountkit.training.resume_point import ResumePoint

ARGUMENT = "resume_from_checkpoint"


def of(terms: TrainerTerms, begun: set[str]) -> Callable[..., Any]:
    """What stands around ``Trainer.train``; ``begun`` gets each place that it trains in."""
    # Where a training has come to its end in this process: the next one goes on from that by
    # itself, or begins anew, as the script means it.
    over: set[str] = set()

    def train(
        trainer: Any,
        method: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        place = paths.resolve(trainer.args.output_dir)
        begun.add(place)
        point = None
        # A trial of a hyper-parameter search begins at its own beginning.
        if place not in over and _option("trial", 1, arguments, options) is None:
            point = _agree(trainer.args, _option(ARGUMENT, 0, arguments, options), terms)
        if point is None or point.kind == "script":
            result = method(*arguments, **options)
        elif point.kind == "weights":
            with start_weights.loaded(trainer, point.path):
                result = method(*_with(None, arguments), **_without(options))
        else:
            resumed = point.path or None
            if arguments:
                result = method(*_with(resumed, arguments), **options)
            else:
                result = method(**{**options, ARGUMENT: resumed})
        over.add(place)
        return result

    return train


def _agree(args: Any, argument: object, terms: TrainerTerms) -> ResumePoint | None:
    """Where all ranks begin: rank 0 asks the store, and tells the others.

    Raises MountkitError, on every rank, if the store cannot be asked.
    """
    if args.world_size == 1:
        return _decide(args, argument, terms)
    together = ranks.meet(ranks.Ranks(), args, timeouts.limits(settings.load()))
    first = args.process_index == 0
    decided = together.together(lambda: _decide(args, argument, terms) if first else None)
    point = together.gather(decided)[0]
    together.leave()
    if point is None or point.kind != "checkpoint":
        return point
    # The same checkpoint, where this node mounts.
    return replace(point, path=str(Path(args.output_dir) / Path(point.path).name))


def _decide(args: Any, argument: object, terms: TrainerTerms) -> ResumePoint | None:
    """Where it begins; None where nothing is said about it.

    Raises MountkitError if the store cannot be asked: to begin anew then would be the worst.
    """
    script = resume_point.asked_by_script(argument, args.resume_from_checkpoint)
    newest = None
    if terms.resume and not script:
        found = Mount.containing(args.output_dir)
        if terms.path and (found is None or found.path != paths.resolve(terms.path)):
            say(f"{args.output_dir} does not lie in the mount at {terms.path}: not resumed")
            return None
        pending_proof.settle_all(say)
        newest = newest_checkpoint(
            args.output_dir,
            settings.load(),
            on_skip=lambda name, reason: say(f"{name} is passed over: {reason}"),
        )
    point = resume_point.decide(script, newest, terms.load_path)
    say(_WORDS[point.kind].format(path=point.path, place=args.output_dir))
    return point


_WORDS = {
    "script": "the script says itself what to begin with: {path}",
    "checkpoint": "the training goes on from {path}",
    "weights": "the training begins with the weights of {path}",
    "beginning": "nothing to resume from in {place}: the training begins from the start",
}


def _option(name: str, position: int, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return arguments[position] if len(arguments) > position else options.get(name)


def _with(value: object, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (value, *arguments[1:]) if arguments else ()


def _without(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != ARGUMENT}
