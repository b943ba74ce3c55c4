"""What a setting takes, and what it says of everything else."""

from __future__ import annotations

from typing import Literal

import pytest

from mountkit.config import values
from mountkit.config.values import Count, ExitCode, Index, Seconds, Size, Switch, Text, convert


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("1000B", 1000),
        ("1.5kB", 1500),
        (" 256MB ", 256_000_000),
        ("256 mb", 256_000_000),
        ("20GiB", 20 << 30),
        ("20Gi", 20 << 30),
        ("2T", 2 * 10**12),
        (".5KiB", 512),
        ("0", 0),
        ("much", None),
        ("", None),
        ("-1GB", None),
        ("1XB", None),
        ("1i", None),
        ("1 GB 2", None),
        ("9" * 20, int("9" * 20)),
        ("9" * 400, 10**400),
    ],
)
def test_a_size_as_people_write_it(text, size):
    assert values.size(text) == size


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (Seconds, "1.5", 1.5),
        (Seconds, 2, 2.0),
        (Seconds, " 3\n", 3.0),
        (Seconds, ".5", 0.5),
        (Index, "07", 7),
        (Count, "+5", 5),
        (Count, "2", 2),
        (Index, 0, 0),
        (Size, "1MB", 1_000_000),
        (Size, 5, 5),
        (Text, " as it is ", " as it is "),
        (Text, "null", "null"),
        *((Switch, word, True) for word in ("true", "True", "1", "yes", "ON", "y", True)),
        *((Switch, word, False) for word in ("false", "FALSE", "0", "no", "Off", "n", False)),
    ],
)
def test_what_the_environment_a_file_or_a_flag_gives(kind, given, expected):
    found = convert(given, kind)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        (Seconds, "soon", "it takes a number of seconds, more than 0"),
        (Seconds, "null", "it takes a number of seconds, more than 0"),
        (Seconds, True, "it takes a number of seconds, more than 0"),
        (Count, "0", "it takes a whole number, 1 or more"),
        (Index, 1.5, "it takes a whole number, 0 or more"),
        (ExitCode, "256", "it takes a whole number from 1 to 255"),
        (Size, "0", "it takes a size such as 500MB or 20GiB"),
        (Size, "much", "it takes a size such as 500MB or 20GiB"),
        (Count, "1.5", "it takes a whole number, 1 or more"),
        (Switch, "maybe", "it takes true or false"),
        (Text, 5, "it takes a text"),
        (Literal["newest", "none", "all"], "some", "it takes 'newest', 'none' or 'all'"),
    ],
)
def test_anything_else_is_told_what_would_do(kind, given, says):
    with pytest.raises(ValueError, match=f"^{says}$"):
        convert(given, kind)
