"""One look at a mount: what waits, what no proof covers, and what went wrong last."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.backends.base import WrittenFile
from mountkit.errors import MountUnavailableError
from mountkit.formatting import timestamp
from mountkit.linux import mount_table
from mountkit.linux.process import ProcessIdentity
from mountkit.monitoring import snapshot
from mountkit.monitoring.snapshot import BROKEN, Amount, look, not_covered
from mountkit.state.proof_stats import ProofStats, Proven
from mountkit.state.record import FAILED, MOUNTING, REPAIRING, SERVING
from support.fakes import FakeMount

DEAD = ProcessIdentity(os.getpid(), 1.0, "/gone")
BEGAN = 1000.0


@pytest.fixture
def mount(tmp_path) -> FakeMount:
    return FakeMount(tmp_path)


def seen(mount: FakeMount):
    return look(mount, mount.record())


def file(path: str, modified: float, *, dirty: bool = False) -> WrittenFile:
    return WrittenFile(path, 1, modified, dirty)


@pytest.fixture
def record(mount):
    mount.begin(BEGAN, adopted=("old/adopted",))
    return mount.record()


class TestCovered:
    TALLY = ProofStats(proven_at={"run/checkpoint-3": 2000.0})

    @pytest.mark.parametrize(
        ("path", "modified", "open_"),
        [
            ("run/checkpoint-3/model", 1999.0, False),
            ("run/checkpoint-3/sub/deep", 2000.0, False),
            ("run/checkpoint-3/model", 2001.0, True),
            ("run/checkpoint-30/model", 1999.0, True),
            ("checkpoint-3/model", 1999.0, True),
            ("run/checkpoint-3", 1999.0, True),
            ("run/log", 1999.0, True),
            ("old/model", 999.0, False),
            ("old/adopted", 999.0, True),
            ("run/checkpoint-3/mountkit-manifest.json", 2001.0, False),
        ],
    )
    def test_each_case(self, record, path, modified, open_):
        assert not_covered(file(path, modified), record, self.TALLY) is open_

    @given(path=st.text(min_size=1), modified=st.floats(0, 1e10))
    def test_what_waits_for_its_upload_is_covered_by_nothing(self, path, modified):
        assert not_covered(file(path, modified, dirty=True), None, self.TALLY)


class TestAmounts:
    def test_what_waits_and_what_is_not_proven(self, mount):
        mount.begin()
        mount.save("checkpoint-3/model", b"123")
        mount.write("checkpoint-6/model", b"12345", dirty=True)
        found = seen(mount)
        assert found.pending == Amount(1, 5)
        assert found.unproven == Amount(2, 8)
        at = timestamp(time.time() + 1)
        mount.directory.proof_stats.proved(Proven("checkpoint-3", 3, at))
        assert seen(mount).unproven == Amount(1, 5)

    def test_where_nobody_can_tell(self, mount, monkeypatch):
        mount.begin()

        def fail(*_):
            raise MountUnavailableError("The store is away.")

        monkeypatch.setattr(mount.daemon, "files", fail)
        found = seen(mount)
        assert (found.pending, found.unproven) == (None, None)
        assert found.unknown == "The store is away."

    def test_a_journal_that_cannot_be_read(self, mount, monkeypatch):
        mount.begin()

        def fail(*_):
            raise PermissionError(13, "denied", "/x")

        monkeypatch.setattr(mount.daemon, "files", fail)
        assert "denied" in seen(mount).unknown


class TestState:
    @pytest.fixture(autouse=True)
    def table(self, monkeypatch):
        self.entry: object | None = object()
        backend = SimpleNamespace(mounts=True, entry=lambda _: self.entry)
        monkeypatch.setattr(snapshot.backends, "load", lambda _: backend)

    @pytest.mark.parametrize(
        ("written", "supervised", "served", "mounted", "shown"),
        [
            (SERVING, True, True, True, SERVING),
            (SERVING, False, True, True, SERVING),
            (SERVING, True, False, True, REPAIRING),
            (SERVING, True, True, False, REPAIRING),
            (SERVING, False, False, True, BROKEN),
            (SERVING, False, True, False, BROKEN),
            (REPAIRING, True, False, False, REPAIRING),
            (REPAIRING, False, False, False, BROKEN),
            (FAILED, True, False, False, FAILED),
            (FAILED, False, False, False, BROKEN),
            (MOUNTING, True, False, False, MOUNTING),
        ],
    )
    def test_the_record_is_held_against_what_there_is(
        self, mount, written, supervised, served, mounted, shown
    ):
        mine = ProcessIdentity.mine()
        self.entry = object() if mounted else None
        mount.begin(daemon=mine if served else DEAD)
        record = mount.record().change(written)
        mount.directory.write(record)
        if not supervised:
            mount.directory.write(replace(record, supervisor=DEAD))
        found = seen(mount)
        assert found.state == shown
        assert found.supervisor_pid == (mine.pid if supervised else None)
        assert found.daemon_pid == (mine.pid if served else None)


@pytest.mark.parametrize(
    ("supervised", "mounted", "shown"),
    [(True, True, SERVING), (True, False, REPAIRING), (False, True, BROKEN)],
)
def test_without_a_daemon_the_disk_serves_while_somebody_keeps_it(
    mount, monkeypatch, supervised, mounted, shown
):
    entry = object() if mounted else None
    backend = SimpleNamespace(mounts=False, entry=lambda _: entry)
    monkeypatch.setattr(snapshot.backends, "load", lambda _: backend)
    mount.begin()
    if not supervised:
        mount.directory.write(replace(mount.record(), supervisor=DEAD))
    found = seen(mount)
    assert (found.state, found.daemon_pid) == (shown, None)


class TestLastError:
    def test_none(self, mount):
        mount.begin()
        found = seen(mount)
        assert found.last_error is None
        assert found.settled

    def test_the_later_of_what_was_noted_and_what_the_daemon_logged(self, mount):
        mount.begin()
        mount.directory.proof_stats.record_error("noted")
        mount.daemon.error = (time.time() - 60, "logged")
        assert seen(mount).last_error.message == "noted"
        mount.daemon.error = (time.time() + 60, "logged")
        assert seen(mount).last_error.message == "logged"

    def test_a_proof_after_it_settles_it(self, mount):
        mount.begin()
        mount.daemon.error = (2000.0, "logged")
        assert not seen(mount).settled
        mount.directory.proof_stats.proved(Proven("checkpoint-3", 3, timestamp(1999.0)))
        assert not seen(mount).settled
        mount.directory.proof_stats.proved(Proven("checkpoint-6", 6, timestamp(2001.0)))
        assert seen(mount).settled


def test_the_mount_table_is_read_and_the_mount_is_not(mount, monkeypatch):
    mount.begin()
    monkeypatch.setattr(FakeMount, "serving", lambda _: pytest.fail("it was probed"))
    assert mount_table.at(mount.path) is None
    assert seen(mount).state in {REPAIRING, BROKEN}
