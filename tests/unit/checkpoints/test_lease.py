"""The lease: its format, who may take it, and which manifests count beside it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.checkpoints.lease import (
    LIMIT_BYTES,
    REMEMBERED,
    TTL_SECONDS,
    Epoch,
    Holder,
    Lease,
    NewerFormatError,
    Standing,
    judge,
    succeed,
    superseded,
)
from mountkit.errors import VerificationError
from support.leases import ELSEWHERE, at, lease_of

pytestmark = pytest.mark.fault(36)

ME = Holder("node-a", 1, "ba9876543210", 7, "this boot")
DOCUMENT = json.loads(lease_of(ELSEWHERE, 0, 60).to_bytes())


class TestFormat:
    def test_it_is_read_as_it_was_written(self):
        lease = lease_of(ELSEWHERE, 0, 60.5, released=True, renewal=9)
        assert Lease.from_bytes(lease.to_bytes()) == lease
        assert (lease.epoch, lease.since) == (2, at(60.5))

    def test_a_renewal_is_another_object(self):
        lease = lease_of()
        assert lease.renewed().to_bytes() != lease.to_bytes()
        assert lease.renewed().epochs == lease.epochs

    def test_keys_of_later_versions_are_passed_over(self):
        text = json.dumps({**DOCUMENT, "nodes": 4})
        assert Lease.from_bytes(text.encode()) == lease_of(ELSEWHERE, 0, 60)

    @pytest.mark.parametrize("number", [2, 99])
    def test_a_newer_format_is_told_from_what_is_none(self, number):
        with pytest.raises(NewerFormatError, match=f"format {number}"):
            Lease.from_bytes(json.dumps({"format": number}).encode())

    @pytest.mark.parametrize(
        "change",
        [
            {"format": True},
            {"format": "1"},
            {"format": 0},
            {"epoch": 1},
            {"epoch": None},
            {"epochs": []},
            {"epochs": None},
            {"epochs": [[2, "2026-01-01T00:00:00+00:00"], [2, "2026-01-01T00:00:00+00:00"]]},
            {"epochs": [[3, "2026-01-01T00:00:00+00:00"], [2, "2026-01-01T00:00:00+00:00"]]},
            {"epochs": [[2, "2026-01-01T00:00:00"]]},
            {"epochs": [[2, "9999-12-31T00:00:00+00:00"]]},
            {"epochs": [[2, "soon"]]},
            {"epochs": [[2.0, "2026-01-01T00:00:00+00:00"]]},
            {"epochs": [["2", 3]]},
            {"epochs": [[2**60, "2026-01-01T00:00:00+00:00"]], "epoch": 2**60},
            {"epochs": [[True, "2026-01-01T00:00:00+00:00"]], "epoch": True},
            {"holder": None},
            {"holder": {**DOCUMENT["holder"], "pid": -1}},
            {"holder": {**DOCUMENT["holder"], "pid": "1"}},
            {"holder": {**DOCUMENT["holder"], "host": None}},
            {"holder": {**DOCUMENT["holder"], "place": 3}},
            {"released": "no"},
            {"renewal": -1},
            {"source": 3},
        ],
        ids=str,
    )
    def test_what_makes_no_sense_is_no_lease(self, change):
        with pytest.raises(VerificationError):
            Lease.from_bytes(json.dumps({**DOCUMENT, **change}).encode())

    @pytest.mark.parametrize(
        "data",
        [b"", b"[]", b"null", b"\xff", b"[" * 60_000, b'{"format": 1}', b"x" * (LIMIT_BYTES + 1)],
        ids=lambda data: data[:20],
    )
    def test_nor_is_anything_else(self, data):
        with pytest.raises(VerificationError):
            Lease.from_bytes(data)

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
    def test_whatever_stands_in_a_field_is_read_or_refused(self, value):
        for name in DOCUMENT:
            try:
                found = Lease.from_bytes(json.dumps({**DOCUMENT, name: value}).encode())
            except VerificationError:
                continue
            assert found.epoch == 2


class TestJudge:
    def judged(self, lease, age=0.0, silent=0.0, runs=None):
        return judge(lease, ME, age=age, silent=silent, runs=runs)

    def test_what_nobody_has_is_free(self):
        assert self.judged(None) is Standing.FREE
        assert self.judged(lease_of(released=True)) is Standing.FREE
        assert self.judged(lease_of(ME)) is Standing.FREE

    def test_that_of_a_process_that_is_gone_is_free_at_once(self):
        assert self.judged(lease_of(), runs=False) is Standing.FREE

    def test_that_of_one_that_runs_is_held_while_it_renews(self):
        assert self.judged(lease_of(), age=12.0, runs=True) is Standing.HELD
        # It has been stopped for long, or hangs: it is fenced when it goes on.
        assert self.judged(lease_of(), age=TTL_SECONDS, runs=True) is Standing.FREE

    def test_elsewhere_only_time_tells(self):
        assert self.judged(lease_of(), age=29.9) is Standing.SILENT
        assert self.judged(lease_of(), age=30.0) is Standing.FREE

    @pytest.mark.parametrize("age", [None, -3600.0])
    def test_where_the_stores_clock_says_nothing_ours_does(self, age):
        assert self.judged(lease_of(), age=age, silent=29.9) is Standing.SILENT
        assert self.judged(lease_of(), age=age, silent=30.0) is Standing.FREE

    def test_another_mount_of_the_same_process_is_another_writer(self):
        other = Holder(ME.host, ME.pid, "another mount", ME.started, ME.place)
        assert self.judged(lease_of(other), runs=True) is Standing.HELD


class TestSucceed:
    def taken(self, lease, now=100.0, renewed=60.0, *, expired=True, floor=0):
        moments = {"now": at(now), "renewed": at(renewed)}
        return succeed(lease, ME, "s3://bucket/run", expired=expired, floor=floor, **moments)

    def test_the_first_epoch_is_one(self):
        lease = succeed(None, ME, "s3://bucket/run", now=at(5), renewed=None, expired=False)
        assert lease.epochs == (Epoch(1, at(6)),)
        assert not lease.released

    def test_the_next_one_is_higher_and_remembers_all_before(self):
        lease = self.taken(lease_of(ELSEWHERE, 0, 50, released=True))
        assert [epoch.number for epoch in lease.epochs] == [1, 2, 3]
        assert (lease.holder, lease.since, lease.released) == (ME, at(100), False)

    def test_where_the_lease_was_deleted_the_manifests_tell_how_far_it_was(self):
        assert self.taken(None, floor=7).epoch == 8

    def test_what_a_finished_run_wrote_in_its_last_second_counts(self):
        assert self.taken(lease_of(), expired=False).since == at(101)
        assert self.taken(lease_of(), expired=True).since == at(100)

    def test_where_the_stores_clock_went_back_what_was_proven_still_counts(self):
        assert self.taken(lease_of(ELSEWHERE, 3600)).since == at(3600)
        assert self.taken(lease_of(), now=0.0, renewed=1800.0).since == at(1800)

    def test_a_store_that_tells_no_time_has_this_machines(self):
        before = datetime.now(UTC)
        lease = succeed(None, ME, "s3://b/run", now=None, renewed=None, expired=True)
        assert before <= lease.since <= datetime.now(UTC) + timedelta(seconds=1)

    def test_it_does_not_grow_for_ever(self):
        lease = None
        for number in range(REMEMBERED + 100):
            lease = self.taken(lease, now=number, renewed=number)
        assert lease.epoch == REMEMBERED + 100
        assert len(lease.to_bytes()) < LIMIT_BYTES
        assert Lease.from_bytes(lease.to_bytes()) == lease
        # One boundary stands for all that were forgotten.
        assert superseded(lease, 3, at(99)) is None
        assert superseded(lease, 3, at(REMEMBERED + 50)).number == 101


class TestSuperseded:
    LEASE = lease_of(ELSEWHERE, 0, 100, 200)

    @pytest.mark.parametrize(
        ("epoch", "written", "later"),
        [
            (1, 99, None),
            (1, 100, 2),
            (1, 150, 2),
            (1, 250, 2),
            (2, 150, None),
            (2, 99, None),
            (2, 200, 3),
            (3, 1e6, None),
            (4, 1e6, None),
            (0, 50, 1),
        ],
    )
    def test_a_manifest_counts_if_no_later_epoch_had_begun(self, epoch, written, later):
        found = superseded(self.LEASE, epoch, at(written))
        assert (found and found.number) == later

    def test_what_cannot_be_judged_counts(self):
        assert superseded(None, 1, at(1e6)) is None
        assert superseded(self.LEASE, None, at(1e6)) is None
        assert superseded(self.LEASE, 1, None) is None
