"""One event of each kind."""

from __future__ import annotations

import dataclasses
import typing

from mountkit import events

KINDS = typing.get_args(events.Event)
SAMPLES = {"int": 3, "float": 1.5, "str": "text"}


def sample(kind: type) -> events.Event:
    return kind(*(SAMPLES[field.type] for field in dataclasses.fields(kind)))
