"""What follows from what the doctor found: pure values, each with its sentence and its code."""

from __future__ import annotations

import errno
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.backends import NAMES, load
from mountkit.backends.file_operations import OPERATIONS
from mountkit.backends.rclone.backend import MOUNT_FLAGS
from mountkit.doctor import disk_space
from mountkit.doctor.disk_space import Disk
from mountkit.doctor.findings import Finding, OperationResult, describe, diagnose, judge_operations
from mountkit.doctor.s3 import credentials
from mountkit.doctor.s3.observed import Observed, judge_clock, judge_region

OK = Finding("a", "a", "ok", "fine")
WARNING = Finding("b", "b", "warning", "Mind this.", "Do that")
SKIPPED = Finding("c", "c", "skipped", "Not tried.")
DENIED = Finding("put", "put", "failed", "No s3:PutObject.", "Allow it", 77)
FULL = Finding("room", "room", "failed", "The disk is full.", "--cache-dir DIR", 69)

NOTHING: frozenset[str] = frozenset()
ALL = tuple(operation.name for operation in OPERATIONS)
OTHERS = {"steady": NOTHING, "picky": frozenset({"write", "rename"})}
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def results(**failed: int) -> tuple[OperationResult, ...]:
    """Everything works, but for these; a dash in a name is an underscore here."""
    numbers = {name.replace("_", "-"): number for name, number in failed.items()}
    return tuple(
        OperationResult(name, works=False, problem="close: no", errno=numbers[name])
        if name in numbers
        else OperationResult(name, works=True)
        for name in ALL
    )


class TestVerdict:
    def test_warnings_and_what_was_skipped_keep_no_run_from_saving(self):
        found = diagnose((OK, WARNING, SKIPPED), (), "x", NOTHING, source="s3://b")
        assert found.verdict == "This run will save."
        assert found.exit_code == 0

    def test_the_first_failure_decides_about_sentence_and_code(self):
        found = diagnose((OK, DENIED, FULL), (), "x", NOTHING, source="s3://b")
        assert found.verdict == "This run will not save: No s3:PutObject. Allow it."
        assert found.exit_code == 77
        assert diagnose((FULL, DENIED), (), "x", NOTHING, source="s3://b").exit_code == 69

    def test_without_a_bucket_it_is_about_the_machine(self):
        assert diagnose((OK,), (), "x", NOTHING, source=None).verdict.startswith("This machine can")
        bad = diagnose((FULL,), (), "x", NOTHING, source=None).verdict
        assert bad.startswith("This machine cannot mount a bucket: The disk is full.")

    @given(st.lists(st.sampled_from([OK, WARNING, SKIPPED, DENIED, FULL])))
    def test_the_code_is_0_exactly_where_nothing_failed(self, findings):
        found = diagnose(findings, (), "x", NOTHING, source="s3://b")
        assert (found.exit_code == 0) == (found.verdict == "This run will save.")
        assert (found.exit_code == 0) == (not {DENIED, FULL}.intersection(findings))

    def test_the_json_is_all_of_it(self):
        found = diagnose((DENIED,), results(rename=1), "x", frozenset({"rename"}), source="s3://b")
        content = json.loads(json.dumps(found.to_json()))
        assert content["exit_code"] == 77
        assert content["backend"] == "x"
        assert content["findings"][0]["name"] == "put"
        told = {operation["operation"]: operation for operation in content["operations"]}
        assert told["rename"]["refused"] is True
        assert told["rename"]["works"] is False
        assert told["write"]["refused"] is False
        assert told["write"]["essential"] is True
        assert told["write"]["matters"]


class TestOperations:
    def test_all_is_well(self):
        (found,) = judge_operations(results(), "x", NOTHING, OTHERS)
        assert found.status == "ok"
        assert found.detail == f"{len(ALL)} of {len(ALL)} work"

    def test_what_a_backend_is_known_to_refuse_is_no_failure(self):
        refused = frozenset({"rename", "append"})
        (found,) = judge_operations(results(rename=1, append=1), "x", refused, OTHERS)
        assert found.status == "ok"
        assert f"{len(ALL) - 2} of {len(ALL)} work" in found.detail
        assert "not on x, as expected: rename, append" in found.detail

    def test_an_essential_one_that_fails_is_a_failure_that_names_the_way_out(self):
        (found,) = judge_operations(results(write=errno.EIO), "picky", NOTHING, OTHERS)
        assert (found.name, found.status, found.exit_code) == ("write", "failed", 69)
        assert "close: no" in found.detail
        assert "--backend steady" in found.hint

    def test_any_other_that_fails_is_a_warning(self):
        (found,) = judge_operations(results(append=errno.EPERM), "x", NOTHING, OTHERS)
        assert (found.name, found.status, found.exit_code) == ("append", "warning", 0)
        assert "TensorBoard" in found.detail

    def test_a_full_disk_asks_for_another_one(self):
        (found,) = judge_operations(results(write=errno.ENOSPC), "x", NOTHING, OTHERS)
        assert "--cache-dir" in found.hint

    def test_no_backend_is_named_that_cannot_do_it_either(self):
        others = {"picky": frozenset({"write"})}
        (found,) = judge_operations(results(write=errno.EIO), "x", NOTHING, others)
        assert found.hint == ""

    def test_one_that_hangs_is_a_failure_whichever_it_is(self):
        told = (
            OperationResult("seek", works=False, problem="no answer", errno=errno.ETIMEDOUT),
            OperationResult("append", works=False, problem="no answer", tried=False),
        )
        hung, after = judge_operations(told, "x", NOTHING, OTHERS)
        assert (hung.name, hung.status, hung.exit_code) == ("seek", "failed", 69)
        assert after.status == "skipped"

    @pytest.mark.parametrize(
        ("number", "problem", "said"),
        [
            (errno.EIO, "Input/output error", "close: EIO, Input/output error"),
            (errno.EIO, "", "close: EIO, Input/output error"),
            (0, "other bytes", "close: other bytes"),
            (99999, "odd", "close: odd"),
        ],
    )
    def test_a_problem_names_the_call_and_the_error(self, number, problem, said):
        assert describe("close", number, problem) == said


@pytest.mark.fault(15)
class TestRoom:
    def test_a_full_disk_is_named_with_what_it_has_and_what_is_needed(self):
        found = disk_space.judge(Disk("/cache", 200_000_000), "rclone", 13 * disk_space.GB)
        assert (found.status, found.exit_code) == ("failed", 69)
        assert "/cache" in found.detail
        assert "200,000,000 bytes" in found.detail
        assert "14,073,741,824 bytes" in found.detail
        assert "--cache-dir" in found.hint

    @pytest.mark.parametrize(
        ("free", "checkpoint", "status"),
        [
            (disk_space.GIB - 1, None, "failed"),
            (disk_space.GIB, None, "warning"),
            (disk_space.LITTLE - 1, None, "warning"),
            (disk_space.LITTLE, None, "ok"),
            (disk_space.GIB + 99, 100, "failed"),
            (disk_space.GIB + 100, 100, "warning"),
            (disk_space.GIB + 199, 100, "warning"),
            (disk_space.GIB + 200, 100, "ok"),
            (0, 0, "failed"),
        ],
    )
    def test_one_checkpoint_must_fit_beside_what_is_kept_free(self, free, checkpoint, status):
        found = disk_space.judge(Disk("/cache", free), "rclone", checkpoint)
        assert found.status == status
        assert bool(found.hint) == (status != "ok")

    def test_a_backend_without_files_on_disk_needs_none(self):
        assert disk_space.judge(Disk("/cache", 0), "mountpoint", 13 * disk_space.GB).status == "ok"
        assert disk_space.judge(Disk("/cache", 0, "gone"), "mountpoint", None).status == "ok"

    def test_a_directory_that_cannot_be_used(self):
        found = disk_space.judge(Disk("/cache", 0, "it is a file"), "rclone", None)
        assert (found.status, found.exit_code) == ("failed", 69)
        assert "/cache cannot be used: it is a file." in found.detail

    def test_what_is_kept_free_is_what_the_daemon_is_told(self):
        assert MOUNT_FLAGS["vfs-cache-min-free-space"] == "1Gi"
        assert disk_space.KEPT_FREE["rclone"] == disk_space.GIB
        assert set(disk_space.KEPT_FREE) <= set(NAMES)

    @pytest.mark.parametrize(
        ("count", "text"),
        [
            (0, "0 kB"),
            (12_345, "12 kB"),
            (64_200_000, "64.2 MB"),
            (1_300_000_000_000, "1,300.0 GB"),
        ],
    )
    def test_sizes_for_people(self, count, text):
        assert disk_space.size(count) == text


@pytest.mark.fault(18)
class TestCredentials:
    def judge(self, method: str, *, temporary: bool = False, hours: float | None = None) -> Finding:
        end = None if hours is None else NOW + timedelta(hours=hours)
        return credentials.judge(credentials.Credentials(method, temporary, end), NOW)

    def test_those_without_a_token_last(self):
        found = self.judge("env")
        assert found.status == "ok"
        assert "environment" in found.detail

    def test_a_token_nobody_renews_and_nobody_says_when_it_ends(self):
        found = self.judge("env", temporary=True)
        assert found.status == "warning"
        assert "nothing says when" in found.detail
        assert found.hint

    def test_a_token_nobody_renews_and_its_end(self):
        found = self.judge("env", temporary=True, hours=1.5)
        assert found.status == "warning"
        assert "until 2026-05-01 13:30 UTC (in 1 h 30 min)" in found.detail

    @pytest.mark.parametrize("method", ["iam-role", "assume-role", "sso", "container-role"])
    def test_those_that_renew_themselves(self, method):
        assert self.judge(method, temporary=True, hours=0.2).status == "ok"
        assert self.judge(method, temporary=True).status == "ok"

    def test_a_place_nobody_knows_is_named_as_it_is(self):
        assert "from somewhere-new" in self.judge("somewhere-new").detail


@pytest.mark.fault(35)
class TestClock:
    @pytest.mark.parametrize(
        ("skew", "status", "code"),
        [
            (0, "ok", 0),
            (-59, "ok", 0),
            (61, "warning", 0),
            (-800, "warning", 0),
            (850, "failed", 78),
        ],
    )
    def test_a_minute_is_told_and_a_quarter_of_an_hour_is_too_much(self, skew, status, code):
        found = judge_clock(Observed(skew=float(skew)))
        assert (found.status, found.exit_code) == (status, code)

    def test_how_much_and_in_which_direction(self):
        assert "5 min ahead of" in judge_clock(Observed(skew=300.0)).detail
        assert "15 min behind" in judge_clock(Observed(skew=-900.0)).detail

    def test_what_the_store_refused_is_a_failure_however_small(self):
        found = judge_clock(Observed(skew=100.0, too_skewed=True))
        assert (found.status, found.exit_code) == ("failed", 78)
        assert judge_clock(Observed(too_skewed=True)).status == "failed"

    def test_a_store_that_does_not_tell_the_time(self):
        assert judge_clock(Observed()).status == "skipped"

    @pytest.mark.parametrize("date", ["", "yesterday", "Fri, 99 Nov 2026 10:00:00 GMT"])
    def test_a_date_that_is_none(self, date):
        observed = Observed()
        observed.note({"ResponseMetadata": {"HTTPHeaders": {"date": date}}})
        assert observed.skew is None

    def test_no_answer_tells_nothing(self):
        observed = Observed()
        observed.note(None)
        assert observed == Observed()


@pytest.mark.fault(19)
class TestRegion:
    def test_a_wrong_one_names_both_and_the_flag(self):
        found = judge_region(Observed(region="eu-west-3"), "us-east-1", "b", aws=True)
        assert (found.status, found.exit_code) == ("failed", 78)
        assert "eu-west-3" in found.detail
        assert "us-east-1" in found.detail
        assert found.hint == "Name its region: --region eu-west-3"

    def test_another_store_may_call_itself_what_it_likes_unless_it_redirects(self):
        assert judge_region(Observed(region="here"), "there", "b", aws=False).status == "ok"
        redirected = Observed(region="here", redirected=True)
        assert judge_region(redirected, "there", "b", aws=False).status == "failed"

    @pytest.mark.parametrize("asked", [None, "eu-west-3"])
    def test_the_right_one_or_none(self, asked):
        found = judge_region(Observed(region="eu-west-3"), asked, "b", aws=True)
        assert found.status == "ok"
        assert ("--region eu-west-3" in found.detail) == (asked is None)

    def test_a_store_that_does_not_tell(self):
        assert judge_region(Observed(), "us-east-1", "b", aws=True).status == "ok"
        assert judge_region(Observed(), None, "b", aws=True).status == "ok"

    def test_what_answers_tell(self):
        observed = Observed()
        observed.note(
            {
                "Error": {"Code": "AuthorizationHeaderMalformed", "Region": "eu-west-3"},
                "ResponseMetadata": {"HTTPHeaders": {}},
            }
        )
        observed.note({"ResponseMetadata": {"HTTPHeaders": {}}})
        assert observed.redirected
        assert observed.region == "eu-west-3"


def test_every_backend_refuses_only_operations_there_are():
    for name in NAMES:
        assert load(name).unsupported_operations <= set(ALL)
