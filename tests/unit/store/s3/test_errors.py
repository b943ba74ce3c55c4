"""What a failed request means: the table from botocore's exceptions to exit codes and hints."""

from __future__ import annotations

import pytest
from botocore import exceptions as known

from mountkit.errors import MountkitError, UsageError
from mountkit.store.base import ObjectChangedError, ObjectMissingError
from mountkit.store.s3 import error_codes
from mountkit.store.s3.errors import safe_url, translate

WHERE = "s3://bucket/run/file"


def answered(code: str, status: int = 400, message: str = "said so", **details: str):
    response = {
        "Error": {"Code": code, "Message": message, **details},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}},
    }
    return known.ClientError(response, "PutObject")


def name_of(value: object) -> str | None:
    if isinstance(value, known.ClientError):
        return value.response["Error"]["Code"] or "no-code"
    return type(value).__name__ if isinstance(value, Exception) else None


@pytest.mark.parametrize(
    ("error", "exit_code", "words"),
    [
        (answered("InvalidAccessKeyId", 403), 77, "refused the credentials"),
        (answered("SignatureDoesNotMatch", 403), 77, "SignatureDoesNotMatch: said so"),
        (answered("ExpiredToken"), 77, "new session token"),
        (answered("AccessDenied", 403), 77, "s3:PutObject"),
        (answered("403", 403, "Forbidden"), 77, "s3:PutObject"),
        (answered("", 403, ""), 77, "HTTP 403"),
        (answered("SomethingNew", 401), 77, "SomethingNew"),
        (answered("NoSuchBucket", 404), 78, "aws s3 mb s3://bucket"),
        (answered("InvalidBucketName"), 78, "bucket"),
        (answered("RequestTimeTooSkewed", 403), 78, "clock"),
        (answered("PermanentRedirect", 301), 78, "another region"),
        (answered("AuthorizationHeaderMalformed", Region="eu-west-3"), 78, "--region eu-west-3"),
        (answered("NoSuchKey", 404), 74, WHERE),
        (answered("PreconditionFailed", 412), 74, "replaced"),
        (answered("InvalidObjectState", 403), 74, "archived"),
        (answered("BadDigest"), 75, "damaged"),
        (answered("SlowDown", 503), 69, "too busy"),
        (answered("SlowDown", 403), 69, "too busy"),
        (answered("InternalError", 500), 69, "InternalError"),
        (answered("NeverHeardOf", 400), 69, "refused when asked to write"),
        (answered("", 404, ""), 69, "HTTP 404"),
        (known.NoCredentialsError(), 78, "AWS_ACCESS_KEY_ID"),
        (known.PartialCredentialsError(provider="env", cred_var="x"), 78, "half"),
        (known.ProfileNotFound(profile="nobody"), 78, "nobody"),
        (known.ConfigParseError(path="p"), 78, "configuration"),
        (known.CredentialRetrievalError(provider="p", error_msg="hunter2"), 77, "fetched"),
        (known.UnauthorizedSSOTokenError(), 77, "Log in"),
        (known.NoRegionError(), 78, "--region"),
        (known.ParamValidationError(report='Invalid bucket name "B_"'), 78, "Invalid bucket name"),
        (ValueError("Invalid endpoint: x"), 78, "--endpoint-url"),
        (known.EndpointConnectionError(endpoint_url="http://h"), 69, "could not be reached"),
        (known.ConnectTimeoutError(endpoint_url="http://h"), 69, "could not be reached"),
        (known.ReadTimeoutError(endpoint_url="http://h"), 69, "could not be reached"),
        (known.ConnectionClosedError(endpoint_url="http://h"), 69, "could not be reached"),
        (known.ProxyConnectionError(proxy_url="http://h"), 69, "could not be reached"),
        (known.ResponseStreamingError(error="broke"), 69, "could not be reached"),
        (known.IncompleteReadError(actual_bytes=1, expected_bytes=2), 69, "could not be reached"),
        (known.SSLError(endpoint_url="http://h", error="e"), 69, "AWS_CA_BUNDLE"),
        (known.MissingDependencyException(msg="m"), 69, "MissingDependencyException"),
    ],
    ids=name_of,
)
def test_every_failure_has_its_exit_code_and_says_what_to_do(error, exit_code, words):
    found = translate(error, doing="write", where=WHERE)
    assert found.exit_code == exit_code
    assert words in str(found)
    assert found.hint
    assert found.message.endswith(".")
    assert "hunter2" not in str(found)
    assert "bucket" in str(found) or isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("doing", "right"),
    [
        ("list", "s3:ListBucket"),
        ("read", "s3:GetObject"),
        ("attest", "s3:GetObject"),
        ("write", "s3:PutObject"),
        ("delete", "s3:DeleteObject"),
    ],
)
@pytest.mark.fault(19)
def test_the_missing_permission_is_named(doing, right):
    found = translate(answered("AccessDenied", 403), doing=doing, where=WHERE)
    assert right in found.hint


@pytest.mark.fault(35)
def test_clock_skew_is_said_in_so_many_words():
    found = translate(answered("RequestTimeTooSkewed", 403), doing="list", where=WHERE)
    assert "The clock of this machine differs too much from the store's" in found.message


def test_missing_and_replaced_objects_can_be_told_apart():
    for code in ("NoSuchKey", "404"):
        found = translate(answered(code, 404), doing="read", where=WHERE)
        assert isinstance(found, ObjectMissingError)
    found = translate(answered("PreconditionFailed", 412), doing="read", where=WHERE)
    assert isinstance(found, ObjectChangedError)


def test_secrets_are_cut_out_whatever_the_store_quotes():
    error = answered("SignatureDoesNotMatch", 403, "you signed with s3cr3t and t0ken")
    found = translate(error, doing="list", where=WHERE, secrets=("s3cr3t", "t0ken", ""))
    assert "s3cr3t" not in str(found)
    assert "t0ken" not in str(found)
    assert found.exit_code == 77
    assert "SignatureDoesNotMatch" in found.message


def test_a_name_from_the_bucket_forges_no_line():
    found = translate(answered("NoSuchKey", 404), doing="read", where="s3://b/x\nERROR: all lost")
    assert "\n" not in found.message
    assert r"x\nERROR" in found.message


def test_an_endpoint_is_named_without_its_credentials():
    url = "https://me:pass@store.example:9000/path?token=x"
    assert safe_url(url) == "https://store.example:9000/path"
    error = known.EndpointConnectionError(endpoint_url=url)
    found = translate(error, doing="list", where=WHERE, endpoint=url)
    assert "store.example:9000" in found.message
    assert "pass" not in str(found)
    assert "token" not in str(found)


def test_an_error_of_ours_stays_itself():
    mine: MountkitError = UsageError("no")
    assert translate(mine, doing="list", where=WHERE) is mine


@pytest.mark.fault(18, 35)
@pytest.mark.parametrize(
    ("error", "may"),
    [
        (answered("RequestTimeTooSkewed", 403), "pass"),
        (answered("RequestExpired", 400), "pass"),
        (answered("ExpiredToken", 400), "pass"),
        (answered("InvalidToken", 403), "pass"),
        (known.CredentialRetrievalError(provider="p", error_msg="x"), "pass"),
        (answered("AccessDenied", 403), "be doubted"),
        (answered("403", 403), "be doubted"),
        (answered("", 401), "be doubted"),
        (answered("InvalidAccessKeyId", 403), "not pass"),
        (answered("SignatureDoesNotMatch", 403), "not pass"),
        (answered("AllAccessDisabled", 403), "not pass"),
        (answered("NoSuchBucket", 404), "not pass"),
        (known.NoCredentialsError(), "not pass"),
        # Waited for as any store that is away.
        (answered("SlowDown", 403), "not pass"),
    ],
    ids=name_of,
)
def test_which_refusals_may_pass(error, may):
    seconds = {
        "pass": error_codes.PASSING_SECONDS,
        "be doubted": error_codes.DENIED_SECONDS,
        "not pass": 0.0,
    }
    found = translate(error, doing="attest", where=WHERE, secrets=("said",))
    assert found.may_pass == seconds[may]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("StatusCode: 403, api error RequestTimeTooSkewed", error_codes.PASSING_SECONDS),
        ("StatusCode: 403, api error InvalidToken: no", error_codes.PASSING_SECONDS),
        ("StatusCode: 403, api error AccessDenied", error_codes.DENIED_SECONDS),
        ("StatusCode: 403, RequestID: x", error_codes.DENIED_SECONDS),
        ("StatusCode: 403, api error InvalidAccessKeyId", 0.0),
        ("api error NoSuchBucket: gone", 0.0),
        ("StatusCode: 403, api error SlowDown", None),
        ("connection reset by peer", None),
    ],
)
def test_a_refusal_in_the_words_of_a_daemon(text, seconds):
    assert error_codes.refused_in(text) == seconds
