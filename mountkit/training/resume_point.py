"""Where a training begins: decided from what is known, and nothing else. Pure.

One process can decide for all, and hand the answer on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

Kind = Literal["script", "checkpoint", "weights", "beginning"]


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a training begins.

    ``script``: Where the script says, mountkit changes nothing. ``checkpoint``: At ``path``.
    ``weights``: At the beginning, with the weights of ``path``. ``beginning``: With its own.
    """

    kind: Kind
    path: str = ""


def asked_by_script(argument: object, setting: object) -> str:
    """What a script says itself to begin with, in words; "" if it leaves that open.

    ``argument``: That of ``Trainer.train``; True means the newest, and leaves it open which one.
    ``setting``: ``resume_from_checkpoint`` of the TrainingArguments.
    """
    if argument is False:
        return "the beginning"
    for said in (argument, setting):
        # A command line has no booleans: a script hands on the word.
        if isinstance(said, str | os.PathLike) and os.fspath(said):
            return os.fsdecode(said)
    return ""


def decide(script: str, newest: str | None, load_path: str) -> ResumePoint:
    """The script's word first, then the newest checkpoint, then weights to begin with."""
    if script:
        return ResumePoint("script", script)
    if newest:
        return ResumePoint("checkpoint", newest)
    return ResumePoint("weights", load_path) if load_path else ResumePoint("beginning")
