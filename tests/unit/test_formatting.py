"""How values read to people."""

from __future__ import annotations

import pytest

from mountkit.formatting import printable


@pytest.mark.parametrize(
    ("name", "shown"), [("plain", "plain"), ("ünï 検", "ünï 検"), ("a\nb", r"'a\nb'")]
)
def test_printable(name, shown):
    assert printable(name) == shown
