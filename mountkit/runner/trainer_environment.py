"""What the command's environment has for the Trainers below it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.config.trainer_terms import VARIABLE, TrainerTerms
from mountkit.errors import UsageError
from mountkit.store import parse
from mountkit.writers import startup_hook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.config.settings import Settings


def check(settings: Settings) -> None:
    """Refuse a ``load_path`` that is nowhere, before anything is mounted.

    Raises UsageError if it is a directory that is not there, or a URL that is none.
    """
    text = settings.load_path or ""
    if "://" in text:
        parse(text)
    elif text and not Path(text).is_dir():
        raise UsageError(
            f"load_path {text} is no directory.",
            hint="Give the directory, or the URL, of a saved model or of a run's checkpoints.",
        )


def with_trainer(settings: Settings, path: str, env: Mapping[str, str]) -> dict[str, str]:
    """``env`` with what is asked of each Trainer; ``path`` is the mount, "" where there is none.

    What a run around this one asks is asked no more.
    """
    terms = TrainerTerms(
        path,
        settings.attach,
        settings.resume,
        settings.on_failure,
        settings.load_path or "",
    )
    if terms.idle:
        return {name: value for name, value in env.items() if name != VARIABLE}
    return startup_hook.found_first({**env, VARIABLE: terms.to_text()})
