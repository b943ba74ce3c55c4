"""The kinds of values that a setting takes, each with the words that say so."""

from __future__ import annotations

import re
import sys
from decimal import Decimal
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta

# "inf" would mean the opposite: a request with that limit fails at once, a wait is over.
Seconds = Annotated[
    float, Meta(gt=0, le=sys.float_info.max, title="a number of seconds, more than 0")
]
Count = Annotated[int, Meta(ge=1, title="a whole number, 1 or more")]
Index = Annotated[int, Meta(ge=0, title="a whole number, 0 or more")]
ExitCode = Annotated[int, Meta(ge=1, le=255, title="a whole number from 1 to 255")]
Size = Annotated[int, Meta(ge=1, title="a size such as 500MB or 20GiB")]
Switch = Annotated[bool, Meta(title="true or false")]
Text = Annotated[str, Meta(title="a text")]

SWITCHES = {
    **dict.fromkeys(("yes", "y", "on", "t"), True),
    **dict.fromkeys(("no", "n", "off", "f"), False),
}
SIZE = re.compile(r"(\d*\.?\d+)\s*(?:([kmgtpe])(i?))?b?", re.IGNORECASE)


def convert(value: object, kind: Any) -> Any:
    """A value of a setting, as the environment, a file or a flag gives it.

    Raises ValueError, which says what the setting takes.
    """
    try:
        given = _parsed(value, kind) if isinstance(value, str) else value
        return msgspec.convert(given, kind, strict=False)
    except ValueError as error:
        raise ValueError(f"it takes {_takes(kind)}") from error


def _parsed(text: str, kind: Any) -> object:
    """What a text says, where it is to be a number, a size or a switch. Raises ValueError."""
    if kind is Text:
        return text
    words = text.strip()
    if kind is Switch:
        return SWITCHES.get(words.lower(), words)
    if kind is Size:
        return size(words)
    if kind is Seconds:
        return float(words)
    return int(words) if kind in (Count, Index, ExitCode) else words


def size(text: str) -> int | None:
    """The bytes of a size such as ``1.5GB``, ``20GiB`` or ``1000``; None if it is none."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        return None
    number, letter, binary = found.groups()
    power = " kmgtpe".index(letter.lower()) if letter else 0
    return int(Decimal(number) * (1024 if binary else 1000) ** power)


def _takes(kind: Any) -> str:
    for each in get_args(kind):
        if isinstance(each, Meta):
            return each.title or ""
    *others, last = (repr(word) for word in get_args(kind))
    return f"{', '.join(others)} or {last}"
