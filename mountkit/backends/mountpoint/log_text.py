"""Text in Rust's debug form, in which Mountpoint logs keys, names and errors."""

from __future__ import annotations

import re

#: A quoted string; its group is what ``plain`` takes.
DEBUG = r'"((?:[^"\\]|\\.)*)"'
ESCAPE = re.compile(r"\\u\{([0-9a-f]+)\}|\\(.)")
ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}


def plain(quoted: str) -> str:
    """A string as it was before Rust's debug form escaped it."""

    def char(match: re.Match[str]) -> str:
        return chr(int(match[1], 16)) if match[1] else ESCAPED.get(match[2], match[2])

    return ESCAPE.sub(char, quoted)
