"""The preflight names what is missing, in seconds, before the first step."""

from __future__ import annotations

import socket
import time

import pytest

from mountkit.demo.s3_server import EmbeddedS3
from mountkit.errors import ConfigurationError, MountUnavailableError, PermissionDeniedError
from mountkit.names import PROBE_NAME
from mountkit.spec import Source, StoreOptions
from mountkit.store.s3.access_check import check
from mountkit.store.s3.store import S3Store
from support.stores import BUCKET, EMPTY_LIST, REGION, Answer, find_rclone


def refusal(store, kind):
    """The error of the preflight."""
    with pytest.raises(kind) as refused:
        check(store, pause=0.0)
    assert refused.value.hint
    return refused.value


def at(endpoint, bucket=BUCKET, **options):
    return S3Store(Source("s3", bucket, "run"), StoreOptions(endpoint, REGION, **options))


def test_a_store_that_can_be_used(each_place):
    facts = each_place.store.check()
    assert facts.url == each_place.store.source.url
    assert facts.endpoint_url == each_place.store.options.endpoint_url
    assert facts.region == REGION
    assert facts.credentials == "env"
    assert facts.written
    assert facts.seconds > 0
    assert each_place.keys() == set(), "the preflight left something behind"


@pytest.mark.fault(15)
def test_its_moment_divides_what_was_there_from_what_comes(rclone):
    # This store lists times that are finer than the whole seconds of a header.
    rclone.put("before", b"1")
    dated = rclone.store.check().dated
    rclone.put("after", b"1")
    listed = {info.path: info.modified for info in rclone.store.list()}
    assert listed["before"] <= dated <= listed["after"]


def test_without_writing(scripted, scripted_store):
    assert not scripted_store.check(write=False).written
    assert {method for method, _ in scripted.requests} == {"GET"}


@pytest.mark.fault(18)
def test_no_credentials(rclone, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    error = refusal(at(rclone.store.options.endpoint_url), ConfigurationError)
    assert "no credentials" in error.message
    assert "AWS_ACCESS_KEY_ID" in error.hint
    assert "--profile" in error.hint


@pytest.mark.fault(18)
def test_a_profile_that_is_not_there(rclone):
    error = refusal(at(rclone.store.options.endpoint_url, profile="nobody"), ConfigurationError)
    assert "nobody" in error.message


@pytest.mark.fault(18)
def test_a_wrong_secret(rclone, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-still-secret")
    error = refusal(at(rclone.store.options.endpoint_url), PermissionDeniedError)
    assert "SignatureDoesNotMatch" in error.message
    assert "wrong-and-still-secret" not in str(error)


@pytest.mark.fault(18)
def test_a_wrong_access_key(rclone, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDWRONG")
    error = refusal(at(rclone.store.options.endpoint_url), PermissionDeniedError)
    assert "InvalidAccessKeyId" in error.message


@pytest.mark.fault(19)
def test_a_bucket_that_is_not_there(each_place):
    error = refusal(at(each_place.store.options.endpoint_url, "no-such-bucket"), ConfigurationError)
    assert "There is no bucket 'no-such-bucket'" in error.message
    assert "aws s3 mb s3://no-such-bucket" in error.hint


@pytest.mark.fault(19)
def test_a_store_that_is_read_only(tmp_path, monkeypatch):
    with EmbeddedS3(tmp_path, buckets=[BUCKET], binary=find_rclone(), read_only=True) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        error = refusal(at(server.endpoint_url), PermissionDeniedError)
    assert "s3:PutObject" in error.hint
    assert "read-only" in error.hint


@pytest.mark.fault(19)
@pytest.mark.parametrize(
    ("method", "right"),
    [
        ("GET", "s3:ListBucket"),
        ("PUT", "s3:PutObject"),
        ("HEAD", "s3:GetObject"),
        ("DELETE", "s3:DeleteObject"),
    ],
)
def test_the_permission_that_is_missing_is_named(scripted, scripted_store, method, right):
    def script(asked, _path, _headers):
        if asked == method:
            return Answer.error(403, "AccessDenied", "User is not authorized")
        return EMPTY_LIST if asked == "GET" else Answer()

    scripted.script = script
    error = refusal(scripted_store, PermissionDeniedError)
    assert right in str(error)
    if method in {"HEAD", "DELETE"}:
        assert scripted.requests[-1][0] == "DELETE", "the throw-away object was not cleaned up"
    if method == "DELETE":
        assert f"s3://bucket/run/{PROBE_NAME}" in error.message


def test_the_throw_away_object_lies_below_the_prefix(scripted, scripted_store):
    scripted.script = lambda method, *_: EMPTY_LIST if method == "GET" else Answer()
    scripted_store.check()
    changed = {path for method, path in scripted.requests if method in {"PUT", "DELETE"}}
    assert len(changed) == 1
    assert changed.pop().startswith(f"/bucket/run/{PROBE_NAME}")


@pytest.mark.fault(35)
def test_clock_skew(scripted, scripted_store):
    scripted.script = lambda *_: Answer.error(403, "RequestTimeTooSkewed", "too large")
    error = refusal(scripted_store, ConfigurationError)
    assert "clock of this machine" in error.message


@pytest.mark.fault(19)
def test_a_bucket_in_another_region_is_named(scripted, scripted_store):
    scripted.script = lambda *_: Answer.error(
        400, "AuthorizationHeaderMalformed", "wrong region", "<Region>eu-west-3</Region>"
    )
    error = refusal(scripted_store, ConfigurationError)
    assert "--region eu-west-3" in error.hint


def test_a_store_that_quotes_the_secret(scripted, scripted_store):
    secret = "a-secret-nobody-may-print"
    scripted.script = lambda *_: Answer.error(403, "SignatureDoesNotMatch", f"you sent {secret}")
    error = refusal(scripted_store, PermissionDeniedError)
    assert secret not in str(error)
    assert "you sent ***" in error.message


@pytest.mark.fault(33)
def test_a_store_that_is_busy(scripted, scripted_store):
    scripted.script = lambda *_: Answer.error(503, "SlowDown", "reduce your rate")
    error = refusal(scripted_store, MountUnavailableError)
    assert "SlowDown" in error.message


def test_nobody_listens(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        error = refusal(at(url), MountUnavailableError)
    assert url in error.message


@pytest.mark.fault(34)
@pytest.mark.parametrize("greedy", [False, True], ids=["accepts-nothing", "answers-nothing"])
def test_a_black_hole(monkeypatch, greedy):
    """A port whose queue is full never completes a connection; one that listens never answers."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    callers = []
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(128 if greedy else 0)
        address = hole.getsockname()
        if not greedy:
            for _ in range(8):
                caller = socket.socket()
                caller.setblocking(False)
                caller.connect_ex(address)
                callers.append(caller)
        error = refusal(at(f"http://127.0.0.1:{address[1]}"), MountUnavailableError)
        for caller in callers:
            caller.close()
    assert str(address[1]) in error.message


def test_a_store_that_answers_slowly_but_for_ever(scripted, scripted_store):
    def script(*_):
        time.sleep(1.5)
        return Answer.error(503, "SlowDown")

    scripted.script = script
    with pytest.raises(
        MountUnavailableError, match=r"no answer in 2 s when mountkit tried to list"
    ):
        scripted_store.check(seconds=2)


def test_a_machine_that_is_busy_is_no_store_that_is_silent(rclone):
    class Busy(S3Store):
        def session(self):
            """As when what boto3 needs is loaded while everything else is loaded, too."""
            until = time.thread_time() + 1.1
            while time.thread_time() < until:
                pass
            return super().session()

    assert Busy(rclone.store.source, rclone.store.options).check(seconds=1).written


@pytest.mark.parametrize(
    "url", ["", "store.example", "ftp://store.example", "http://", "http://h:port", "http://[::1"]
)
def test_an_endpoint_that_is_no_url(monkeypatch, url):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    refusal(at(url), ConfigurationError)


def test_an_endpoint_with_credentials_in_it(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    error = refusal(at("http://me:hunter2@127.0.0.1:1"), ConfigurationError)
    assert "hunter2" not in str(error)
    assert "127.0.0.1:1" in error.message


def test_a_bucket_no_store_can_have(rclone):
    error = refusal(at(rclone.store.options.endpoint_url, "No_Such Bucket!"), ConfigurationError)
    assert "No_Such Bucket!" in error.message


def test_a_store_that_went_away(tmp_path, monkeypatch):
    with EmbeddedS3(tmp_path, buckets=[BUCKET], binary=find_rclone()) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        store = at(server.endpoint_url)
        store.put("a", b"x")
    refusal(store, MountUnavailableError)


@pytest.mark.fault(18, 35)
@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "ExpiredToken", "AccessDenied"])
def test_a_refusal_that_passes_is_asked_about_once_more(scripted, scripted_store, code):
    answers = iter([Answer.error(403, code)])
    scripted.script = lambda *_: next(answers, EMPTY_LIST)
    assert not check(scripted_store, write=False, pause=0.0).written
    assert len(scripted.requests) == 2


@pytest.mark.fault(18)
@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "NotSignedUp"])
def test_a_key_that_is_plainly_wrong_is_not(scripted, scripted_store, code):
    scripted.script = lambda *_: Answer.error(403, code)
    with pytest.raises(PermissionDeniedError, match=code):
        # Longer than the test may take.
        check(scripted_store, write=False, pause=3600.0, seconds=30.0)
    assert len(scripted.requests) == 1


@pytest.mark.fault(18)
def test_a_store_that_falls_silent_then_has_refused(scripted, scripted_store):
    scripted.script = lambda *_: Answer.error(403, "AccessDenied")
    with pytest.raises(PermissionDeniedError, match="AccessDenied"):
        check(scripted_store, write=False, pause=3600.0, seconds=1.0)
