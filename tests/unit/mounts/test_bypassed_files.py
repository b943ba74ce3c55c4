"""What people are told of a file that missed the mount."""

from __future__ import annotations

import pytest

from mountkit.proof.bypassed_report import why
from mountkit.state.bypassed_files import BypassedFile, BypassedFiles

BEGAN = 100.0
STANDING = "by a process whose working directory"
GONE = "while the mount was gone"


def reason(at: float, *lost: float, covered: float | None = 101.0, until: float | None = None):
    return why(BypassedFile("a", 5, at, "1", covered, until), BEGAN, lost)


@pytest.mark.fault(43)
class TestWhy:
    def test_the_mount_was_there(self):
        assert STANDING in reason(150.0)
        assert STANDING in reason(150.0, 120.0, covered=130.0)

    def test_it_was_not_there_yet(self):
        assert "before the mount was made" in reason(99.0)

    @pytest.mark.parametrize("lost", [(140.0,), (120.0, 140.0)])
    def test_it_was_gone(self, lost):
        # Found before it was mounted again, or after that.
        assert GONE in reason(150.0, *lost)
        assert GONE in reason(150.0, *lost, covered=160.0)
        assert GONE in reason(150.0, *lost, covered=None)

    def test_it_was_gone_later(self):
        assert STANDING in reason(130.0, 140.0, covered=160.0)

    def test_it_had_been_taken_away(self):
        assert GONE in reason(150.0, until=149.0)
        assert STANDING in reason(148.0, until=149.0)

    def test_an_earlier_mount_began_when_this_one_did(self):
        assert STANDING in reason(150.0, 50.0, BEGAN)

    def test_the_daemon_left_it_torn(self):
        assert "the daemon died" in why(BypassedFile("a", 5, 150.0, "1", torn=True), BEGAN, ())

    def test_nothing_is_known_of_what_an_earlier_version_noted(self):
        assert why(BypassedFile("a"), BEGAN, ()) == "it did not reach the mount"


@pytest.mark.fault(42)
def test_of_several_of_one_name_the_last_is_told_of(tmp_path):
    one, two, three = (BypassedFile("a", size, 0.0, str(size)) for size in (1, 2, 3))
    known = BypassedFiles(tmp_path)
    known.add([one])
    assert known.unnamed([one.occurrence]) == ()
    known.add([two, three])
    assert known.unnamed([one.occurrence]) == (three,)


def test_a_run_may_remove_thousands_of_checkpoints(tmp_path):
    known = BypassedFiles(tmp_path)
    known.note_partially_deleted([f"checkpoint-{step}" for step in range(5000)])
    assert len(known.partially_deleted()) == 5000
