"""Where a training begins: the script's word, the newest checkpoint, weights, or its start."""

from __future__ import annotations

from pathlib import Path

import pytest

from mountkit.training.resume_point import ResumePoint, asked_by_script, decide


@pytest.mark.parametrize(
    ("argument", "setting", "asked"),
    [
        (None, None, ""),
        # The newest, and which one that is the script leaves open.
        (True, None, ""),
        ("", "", ""),
        (False, None, "the beginning"),
        (False, "/a", "the beginning"),
        ("/a", "/b", "/a"),
        (Path("/a"), None, "/a"),
        (None, "/b", "/b"),
        (True, "/b", "/b"),
    ],
)
def test_what_the_script_says_itself(argument, setting, asked):
    assert asked_by_script(argument, setting) == asked


@pytest.mark.parametrize(
    ("known", "point"),
    [
        (("/a", "/b", "/c"), ResumePoint("script", "/a")),
        (("", "/b", "/c"), ResumePoint("checkpoint", "/b")),
        (("", None, "/c"), ResumePoint("weights", "/c")),
        (("", None, ""), ResumePoint("beginning")),
    ],
)
def test_the_order(known, point):
    assert decide(*known) == point
