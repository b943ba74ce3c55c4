"""The codes that stores refuse requests with, sorted by what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HTTP_MISSING = 404
HTTP_PRECONDITION = 412

# XAdminUserNotFound is of the Versity gateway, which answers it with 404.
REFUSED_CREDENTIALS = frozenset(
    {
        "AuthFailure", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId",
        "InvalidClientTokenId", "InvalidSecurity", "InvalidToken", "SignatureDoesNotMatch",
        "TokenRefreshRequired", "UnrecognizedClientException", "XAdminUserNotFound",
    }
)  # fmt: skip
FORBIDDEN = frozenset(
    {
        "401", "403", "AccessDenied", "AccessDeniedException", "AccountProblem",
        "AllAccessDisabled", "Forbidden", "MethodNotAllowed", "NotSignedUp", "Unauthorized",
        "UnauthorizedAccess",
    }
)  # fmt: skip
CLOCK = frozenset({"RequestExpired", "RequestTimeTooSkewed"})
REGION = frozenset(
    {
        "301", "307", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException",
        "InvalidRegion", "PermanentRedirect", "TemporaryRedirect",
    }
)  # fmt: skip
BUSY = frozenset(
    {
        "429", "500", "502", "503", "504", "InternalError", "RequestLimitExceeded",
        "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException",
        "TooManyRequests",
    }
)  # fmt: skip
#: Refusals that pass by themselves: a clock is being set, or credentials are being renewed.
PASSING = CLOCK | {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
#: Those of FORBIDDEN that say why, and stay.
FINAL = frozenset({"AccountProblem", "AllAccessDisabled", "MethodNotAllowed", "NotSignedUp"})
#: How a daemon quotes one that a right being given just now would end.
DENIED = ("AccessDenied", "StatusCode: 403")
# For so long a refusal is asked about again: seconds in which what passes has mostly passed; and
# some seconds, for a store that denies access once may only be taking in a change.
PASSING_SECONDS = 15.0
DENIED_SECONDS = 3.0
DAMAGED = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"})
NO_OBJECT = frozenset({"NoSuchKey", "NoSuchVersion"})

#: What S3 calls the right to do what a request does, by the word used for it in our messages.
PERMISSIONS: Mapping[str, str] = {
    "list": "s3:ListBucket",
    "read": "s3:GetObject",
    "attest": "s3:GetObject",
    "write": "s3:PutObject",
    "delete": "s3:DeleteObject",
    "abort": "s3:AbortMultipartUpload",
}


def may_pass(code: str, status: int = 0) -> float:
    """For how many seconds a refusal may be one that passes by itself; 0 where it is final."""
    if code in PASSING:
        return PASSING_SECONDS
    if code in REFUSED_CREDENTIALS or code in FINAL or code in BUSY:
        return 0.0
    return DENIED_SECONDS if code in FORBIDDEN or status in {401, 403} else 0.0


def refused_in(text: str) -> float | None:
    """The same of a refusal in the words of a daemon; None if it quotes none.

    A daemon may name the status beside the code, and the code says more.
    """
    if any(code in text for code in BUSY if not code.isdecimal()):
        return None
    if any(code in text for code in PASSING):
        return PASSING_SECONDS
    if any(code in text for code in REFUSED_CREDENTIALS | FINAL | {"NoSuchBucket"}):
        return 0.0
    return DENIED_SECONDS if any(word in text for word in DENIED) else None
