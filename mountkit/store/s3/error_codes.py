"""The codes that stores refuse requests with, sorted by what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HTTP_MISSING = 404
HTTP_PRECONDITION = 412
HTTP_RANGE = 416

REFUSED_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
        # Of the Versity gateway, which answers it with 404.
        "XAdminUserNotFound",
    }
)
FORBIDDEN = frozenset(
    {
        "401",
        "403",
        "AccessDenied",
        "AccessDeniedException",
        "AccountProblem",
        "AllAccessDisabled",
        "Forbidden",
        "MethodNotAllowed",
        "NotSignedUp",
        "Unauthorized",
        "UnauthorizedAccess",
    }
)
CLOCK = frozenset({"RequestExpired", "RequestTimeTooSkewed"})
REGION = frozenset(
    {
        "301",
        "307",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "InvalidRegion",
        "PermanentRedirect",
        "TemporaryRedirect",
    }
)
BUSY = frozenset(
    {
        "429",
        "500",
        "502",
        "503",
        "504",
        "InternalError",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    }
)
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
