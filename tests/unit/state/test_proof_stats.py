"""The account of the proofs: kept by several processes, read by others, never in the way."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import mountkit
from mountkit.formatting import moment, timestamp
from mountkit.state import proof_stats
from mountkit.state.proof_stats import Ledger, ProofStats, Proven

AT = "2024-01-01T00:00:00+00:00"


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path)


class TestAccount:
    def test_nothing_at_first(self, ledger):
        assert ledger.read() == ProofStats()

    def test_proofs_are_counted_and_the_last_is_remembered(self, ledger):
        ledger.proved(Proven("run/checkpoint-3", 3, AT))
        ledger.proved(Proven("run/checkpoint-6", 6, "2024-01-01T00:01:00+00:00"))
        found = ledger.read()
        assert found.proven == Proven("run/checkpoint-6", 6, "2024-01-01T00:01:00+00:00")
        assert (found.proofs, found.failures, found.complaint) == (2, 0, None)
        assert found.proven_at == {
            "run/checkpoint-3": moment(AT),
            "run/checkpoint-6": moment(AT) + 60,
        }

    def test_a_failed_proof_is_counted_and_its_reason_kept(self, ledger):
        ledger.proved(Proven("checkpoint-3", 3, AT))
        ledger.failed("checkpoint-6 is not proven.")
        found = ledger.read()
        assert (found.proofs, found.failures) == (1, 1)
        assert found.proven.step == 3
        assert found.complaint.message == "checkpoint-6 is not proven."

    def test_a_complaint_is_no_failed_proof(self, ledger):
        ledger.record_error("The store is away.")
        assert ledger.read().failures == 0
        assert ledger.read().complaint.message == "The store is away."

    def test_it_forgets_only_the_oldest_checkpoints(self, ledger, monkeypatch):
        monkeypatch.setattr(proof_stats, "REMEMBERED", 3)
        for step in range(5):
            ledger.proved(Proven(f"checkpoint-{step}", step, timestamp(1e9 + step)))
        assert set(ledger.read().proven_at) == {"checkpoint-2", "checkpoint-3", "checkpoint-4"}
        assert ledger.read().proofs == 5

    def test_a_message_has_an_end(self, ledger):
        ledger.record_error("x" * 100_000)
        assert len(ledger.read().complaint.message) == proof_stats.LONGEST_MESSAGE

    def test_cleared_it_is_empty(self, ledger):
        ledger.record_error("x")
        ledger.clear()
        ledger.clear()
        assert ledger.read() == ProofStats()


class TestRepetition:
    def test_what_is_said_again_and_again_is_written_once(self, ledger, tmp_path):
        ledger.record_error("The store is away.")
        before = (tmp_path / proof_stats.FILE_NAME).stat().st_ino
        ledger.record_error("The store is away.")
        assert (tmp_path / proof_stats.FILE_NAME).stat().st_ino == before
        ledger.record_error("It says something else.")
        assert ledger.read().complaint.message == "It says something else."

    def test_after_a_while_it_counts_as_new(self, ledger, tmp_path, monkeypatch):
        monkeypatch.setattr(proof_stats, "REPEAT_SECONDS", 0.0)
        ledger.record_error("The store is away.")
        before = (tmp_path / proof_stats.FILE_NAME).stat().st_ino
        ledger.record_error("The store is away.")
        assert (tmp_path / proof_stats.FILE_NAME).stat().st_ino != before


class TestFile:
    def test_only_its_owner_can_read_it(self, ledger, tmp_path):
        old = os.umask(0)
        try:
            ledger.record_error("x")
        finally:
            os.umask(old)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert modes == {0o600}

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"proven": 3}'])
    def test_one_that_cannot_be_read_is_begun_anew(self, ledger, tmp_path, text, caplog):
        (tmp_path / proof_stats.FILE_NAME).write_text(text)
        assert ledger.read() == ProofStats()
        assert proof_stats.FILE_NAME in caplog.text
        ledger.failed("x")
        assert ledger.read().failures == 1

    def test_a_disk_that_takes_nothing_fails_no_proof(self, tmp_path, caplog):
        (tmp_path / "file").write_text("")
        Ledger(tmp_path / "file").proved(Proven("checkpoint-3", 3, AT))
        assert "is not up to date" in caplog.text

    def test_a_directory_that_is_gone_stays_away(self, tmp_path, caplog):
        Ledger(tmp_path / "gone").failed("x")
        assert not (tmp_path / "gone").exists()
        assert "is not up to date" in caplog.text

    def test_a_lock_that_is_held_is_not_waited_for(self, ledger, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(proof_stats, "LOCK_SECONDS", 0.05)
        with proof_stats.FileLock(tmp_path / proof_stats.LOCK_NAME):
            Ledger(tmp_path).failed("x")
        assert ledger.read() == ProofStats()
        assert "is not up to date" in caplog.text

    def test_two_processes_lose_nothing(self, ledger, tmp_path):
        code = (
            "import sys; from pathlib import Path; from mountkit.state.proof_stats import Ledger\n"
            "for n in range(25): Ledger(Path(sys.argv[1])).failed(str(n))"
        )
        environment = {"PYTHONPATH": str(Path(mountkit.__file__).parents[1])}
        words = [sys.executable, "-c", code, str(tmp_path)]
        children = [subprocess.Popen(words, env=environment) for _ in range(3)]
        assert [child.wait(60) for child in children] == [0, 0, 0]
        assert ledger.read().failures == 75


class TestMoments:
    @pytest.mark.parametrize("at", ["2024-01-01T00:00:00Z", AT, "2024-01-01T02:00:00.000+02:00"])
    def test_every_way_to_write_it(self, at):
        assert moment(at) == 1704067200.0

    def test_there_and_back(self):
        assert timestamp(1704067200.25) == "2024-01-01T00:00:00.250Z"
        assert moment(timestamp(1704067200.25)) == 1704067200.25
