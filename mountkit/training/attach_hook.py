"""Attaches mountkit to Trainer once that is imported. Imports neither it nor torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mountkit.config.trainer_terms import VARIABLE, TrainerTerms
from mountkit.training.console import say
from mountkit.writers.import_hook import Watcher

if TYPE_CHECKING:
    from collections.abc import Mapping

TRAINER = "transformers.trainer"


def install(env: Mapping[str, str]) -> Watcher:
    """Have Trainer do what the environment asks of it: now, or once it is imported.

    Returns what watches for that, one of the finders of modules by now.
    """
    terms = TrainerTerms.from_text(env[VARIABLE])

    def imported(_: str) -> None:
        try:
            from mountkit.training import attach

            attach.attach(terms)
        except Exception as error:
            if terms.resume or terms.load_path:
                # To begin anew would be the worst.
                say(f"Trainer cannot be resumed, as --resume asks for: {error}")
                raise SystemExit(78) from error
            # The end proves; this must break no training.
            say(f"Trainer is left alone, and its checkpoints are proven at the end: {error}")

    watcher = Watcher((TRAINER,), imported)
    if TRAINER in sys.modules:
        imported(TRAINER)
    else:
        sys.meta_path.insert(0, watcher)
    return watcher
