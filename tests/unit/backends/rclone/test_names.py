"""The names that rclone gives to files in its cache and in the store."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.backends.rclone.names import keeps, stored
from mountkit.proof.upload_waiter import renamed
from mountkit.store import rclone_names
from mountkit.store.rclone_names import QUOTE, STANDARD, shown

SPECIAL = [*STANDARD, *STANDARD.values(), QUOTE, "\uff0e", ".", "a", "F", " "]
NAMED = [character for character in SPECIAL if character not in {"/", "\0"}]
NAMES = st.text(st.sampled_from(NAMED), min_size=1).filter(lambda name: name not in {".", ".."})
REAL = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(SPECIAL), min_size=1)


@pytest.mark.fault(39)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a\u201bb", "a\u201b\u201bb"),
        ("a\u201b\u201bb", "a\u201b\u201bb"),
        ("a\u201b", "a\u201b\u201b"),
        ("a\u2409b", "a\tb"),
        ("a\u201b\u2409b", "a\u2409b"),
        ("a\tb", "a\tb"),
        ("\u2421", "\x7f"),
        ("\u2400", "\u2400"),
        ("a\uff0fb", "a\uff0fb"),
        ("\u201b\uff0f", "\u201b\uff0f"),
        ("\u201bFF", "\u201b\u201bFF"),
        ("\uff0e", "\uff0e"),
        ("\uff0e\uff0e", "\uff0e\uff0e"),
        ("\u201b\uff0e", "\u201b\uff0e"),
        ("a\uff0e", "a\uff0e"),
        ("\udcff", "\udcff"),
        ("below/a\u201bb/c", "below/a\u201b\u201bb/c"),
    ],
)
def test_a_name_is_stored_as_rclone_does_it(name: str, expected: str) -> None:
    assert stored(name) == expected


@given(NAMES)
def test_what_is_stored_is_stored_under_the_same_name_again(name: str) -> None:
    once = stored(name)
    # A symbol that was quoted is a symbol by itself by now, and then no name that is kept.
    assert stored(once) == once or not keeps(once)


@given(REAL)
def test_what_was_encoded_is_decoded(name: str) -> None:
    assert rclone_names._decoded(rclone_names._encoded(name)) == name or not keeps(name)


@given(st.text(st.sampled_from(SPECIAL).filter(lambda one: one != "/")))
def test_what_is_stored_is_asked_for_under_the_name_that_rclone_shows(name: str) -> None:
    # What rclone itself could not write: see ``QUOTED_DOTS``.
    if name not in rclone_names.QUOTED_DOTS:
        assert rclone_names._decoded(shown(name)) == name


@given(NAMES)
def test_another_name_is_never_taken_for_the_one_that_was_given(name: str) -> None:
    assert stored(name) == name or renamed(stored(name), "rclone")


# No file has a name of nothing but dots.
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])).filter(lambda name: name.strip(".")))
def test_a_name_without_what_rclone_alters_is_kept(name: str) -> None:
    if keeps(name):
        assert stored(name) == name
        assert not renamed(name, "rclone")
    assert not renamed(name, "mountpoint")
