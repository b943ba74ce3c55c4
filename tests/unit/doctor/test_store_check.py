"""A store without a part of its own in the doctor is asked what every store can be asked."""

from __future__ import annotations

import pytest

from mountkit.doctor.store_check import by_check
from mountkit.errors import ConfigurationError, MountUnavailableError, PermissionDeniedError
from mountkit.spec import Source
from support.fakes import Bucket, FakeStore


class Refusing(FakeStore):
    def __init__(self, error) -> None:
        super().__init__(Bucket(), Source("s3", "b", "run"))
        self.error = error

    def check(self, *, write=True, seconds=6.0):
        raise self.error


NAME = ".mountkit-doctor-1"


def test_all_is_well():
    bucket = Bucket()
    found = by_check(FakeStore(bucket, Source("s3", "b", "run")), NAME)
    assert [finding.name for finding in found] == ["bucket", "conditions", "lease"]
    assert {(finding.status, finding.exit_code) for finding in found} == {("ok", 0)}
    assert "s3://b/run" in found[0].detail
    assert bucket.objects == {}


@pytest.mark.parametrize("conditions", ["ignored", "refused"])
def test_a_store_that_holds_no_write_to_a_condition(conditions):
    bucket = Bucket(conditions=conditions)
    found = by_check(FakeStore(bucket, Source("s3", "b", "run")), NAME)
    assert [finding.status for finding in found] == ["ok", "warning", "ok"]
    assert "advisory" in found[1].detail
    assert bucket.objects == {}


@pytest.mark.parametrize(
    ("kind", "code"),
    [(ConfigurationError, 78), (PermissionDeniedError, 77), (MountUnavailableError, 69)],
)
def test_what_is_wrong_is_a_finding(kind, code):
    [found] = by_check(Refusing(kind("It says no.", hint="Ask it.")), NAME)
    assert (found.status, found.exit_code) == ("failed", code)
    assert (found.detail, found.hint) == ("It says no.", "Ask it.")
