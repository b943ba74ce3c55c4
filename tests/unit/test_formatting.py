"""How values read to people."""

from __future__ import annotations

import pytest

from mountkit.formatting import printable, span


@pytest.mark.parametrize(
    ("name", "shown"), [("plain", "plain"), ("ünï 検", "ünï 検"), ("a\nb", r"'a\nb'")]
)
def test_printable(name, shown):
    assert printable(name) == shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3540, "59 min"),
        (3599, "1 h"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (86340, "23 h 59 min"),
        (86399, "1 d"),
        (86400, "1 d"),
        (90000, "1 d 1 h"),
        (8640000, "100 d"),
    ],
)
def test_time_in_words(seconds, words):
    assert span(seconds) == words
