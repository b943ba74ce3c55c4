"""What a failed request means: one table from botocore's exceptions to mountkit's errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    NotDurableError,
    PermissionDeniedError,
    VerificationError,
)
from mountkit.formatting import printable
from mountkit.store.base import ObjectChangedError, ObjectMissingError
from mountkit.store.s3 import error_codes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.exceptions import ClientError

_SET_CREDENTIALS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN where it is needed), "
    "or name a profile: --profile NAME"
)


def error_code(error: BaseException | None) -> str:
    """The store's code for the error, or "" if the store did not answer."""
    return str(_details(error).get("Code", ""))


def status_of(error: BaseException) -> int:
    """The HTTP status of the store's answer, or 0 if it did not answer."""
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _details(error: BaseException | None) -> Mapping[str, Any]:
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    details: Mapping[str, Any] = response.get("Error", {})
    return details


def safe_url(url: str) -> str:
    """A URL without a user, a password or a query: fit for a message."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def translate(
    error: Exception, *, doing: str, where: str, endpoint: str = "", secrets: tuple[str, ...] = ()
) -> MountkitError:
    """Say what a failed request means and what to do next.

    ``error``: What botocore raised. ``doing``: ``list``, ``read``, ``attest``, ``write``,
    ``delete``, or another verb for the message. ``where``: The URL of the object, the prefix or the
    bucket, such as ``s3://bucket/run-1``. ``endpoint``: The URL the requests went to, if it is not
    that of AWS. ``secrets``: Strings that must not be in the message, whatever the store quotes.

    Returns the error of the class whose exit code fits, for ``raise translate(...) from error``.
    """
    from botocore.exceptions import ClientError

    if isinstance(error, MountkitError):
        return error
    where = printable(where)  # A name from a bucket must not forge lines.
    if isinstance(error, ClientError):
        found = _answered(error, doing, where, endpoint)
        may_pass = error_codes.may_pass(error_code(error), status_of(error))
    else:
        found = _unanswered(error, doing, where, endpoint)
        # Whoever hands out credentials may be away for a moment.
        fetched = isinstance(found, PermissionDeniedError)
        may_pass = error_codes.PASSING_SECONDS if fetched else 0.0
    for secret in filter(None, secrets):
        found = type(found)(
            found.message.replace(secret, "***"), hint=found.hint.replace(secret, "***")
        )
    if isinstance(found, (ConfigurationError, PermissionDeniedError)):
        found.may_pass = may_pass
    return found


@dataclass(frozen=True, slots=True)
class _Answer:
    """A refusal of the store, taken apart once for all the questions asked about it."""

    code: str
    status: int
    quote: str
    right_region: str
    about_bucket: bool
    doing: str
    where: str
    endpoint: str

    @property
    def bucket(self) -> str:
        return self.where.partition("://")[2].partition("/")[0]

    @property
    def flag(self) -> str:
        return f" --endpoint-url {safe_url(self.endpoint)}" if self.endpoint else ""


def _answered(error: ClientError, doing: str, where: str, endpoint: str) -> MountkitError:
    """The store answered, and the answer is no."""
    code = error_code(error)
    status = status_of(error)
    said = str(_details(error).get("Message") or "").strip().rstrip(".")
    answer = _Answer(
        code=code,
        status=status,
        quote=f"{code}: {said}" if said and said != code else code or f"HTTP {status}",
        right_region=str(
            _details(error).get("Region") or _header(error, "x-amz-bucket-region") or ""
        ),
        about_bucket=error.operation_name == "HeadBucket",
        doing=doing,
        where=where,
        endpoint=endpoint,
    )
    for ask in (_clock, _credentials, _bucket, _region, _object, _permission, _damage):
        if found := ask(answer):
            return found
    busy = code in error_codes.BUSY or status >= 500 or status == 429
    return MountUnavailableError(
        f"The store {'was too busy or failed' if busy else 'refused'} when asked to {doing} "
        f"{where} ({answer.quote}).",
        hint=f"Try again in a while, such as: mountkit latest {where}",
    )


def _clock(answer: _Answer) -> MountkitError | None:
    if answer.code not in error_codes.CLOCK:
        return None
    return ConfigurationError(
        "The clock of this machine differs too much from the store's, so the store refused to "
        f"{answer.doing} {answer.where} ({answer.quote}).",
        hint="Set the clock, then try again: timedatectl status",
    )


def _credentials(answer: _Answer) -> MountkitError | None:
    if answer.code not in error_codes.REFUSED_CREDENTIALS:
        return None
    hint = "Check which credentials are in use: aws sts get-caller-identity"
    if answer.code.startswith("Expired") or answer.code == "TokenRefreshRequired":
        hint = "Get new credentials (aws sso login, or a new session token), then try again."
    elif answer.endpoint:
        hint = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: they must be this store's."
    return PermissionDeniedError(
        f"The store refused the credentials for {answer.where} ({answer.quote}).", hint=hint
    )


def _bucket(answer: _Answer) -> MountkitError | None:
    if answer.code == "InvalidBucketName":
        return ConfigurationError(
            f"{answer.bucket!r} is not a name a bucket can have ({answer.quote}).",
            hint=f"See which buckets there are: aws s3 ls{answer.flag}",
        )
    missing = answer.about_bucket and answer.status == error_codes.HTTP_MISSING
    if answer.code != "NoSuchBucket" and not missing:
        return None
    return ConfigurationError(
        f"There is no bucket {answer.bucket!r} (asked to {answer.doing} {answer.where}; "
        f"{answer.quote}).",
        hint=f"Create it, or correct its name: aws s3 mb s3://{answer.bucket}{answer.flag}",
    )


def _region(answer: _Answer) -> MountkitError | None:
    if answer.code not in error_codes.REGION:
        return None
    hint = f"Find its region: aws s3api get-bucket-location --bucket {answer.bucket}"
    if answer.right_region:
        hint = f"Name its region: --region {answer.right_region}"
    return ConfigurationError(
        f"The bucket of {answer.where} is in another region than the request was for "
        f"({answer.quote}).",
        hint=hint,
    )


def _object(answer: _Answer) -> MountkitError | None:
    where = answer.where
    if answer.code == "InvalidObjectState":
        return VerificationError(
            f"{where} is archived and cannot be read ({answer.quote}).",
            hint="Restore it first: aws s3api restore-object",
        )
    if answer.code == "PreconditionFailed" or answer.status == error_codes.HTTP_PRECONDITION:
        return ObjectChangedError(
            f"{where} was replaced while it was being read ({answer.quote}).",
            hint=f"See who else writes there, then: mountkit verify {where.rpartition('/')[0]}",
        )
    # A write finds no object missing: a 404 to it means something else.
    missing = answer.status == error_codes.HTTP_MISSING and answer.doing != "write"
    if answer.code in error_codes.NO_OBJECT or missing:
        return ObjectMissingError(
            f"{where} is not in the bucket ({answer.quote}).",
            hint=f"See what is: aws s3 ls {where}{answer.flag}",
        )
    return None


def _permission(answer: _Answer) -> MountkitError | None:
    if answer.code in error_codes.BUSY:
        # Some stores answer "slow down" with 403.
        return None
    if answer.code not in error_codes.FORBIDDEN and answer.status not in {401, 403}:
        return None
    right = error_codes.PERMISSIONS.get(answer.doing)
    look = f"mountkit doctor {answer.where}"
    return PermissionDeniedError(
        f"The store does not allow these credentials to {answer.doing} {answer.where} "
        f"({answer.quote}).",
        hint=f"Allow {right} on it, then: {look}"
        if right
        else f"Give them that right, then: {look}",
    )


def _damage(answer: _Answer) -> MountkitError | None:
    if answer.code not in error_codes.DAMAGED:
        return None
    return NotDurableError(
        f"{answer.where} was damaged on its way to the store, which did not keep it "
        f"({answer.quote}).",
        hint="Try again; if it happens often, check this machine's memory and network.",
    )


def _header(error: ClientError, name: str) -> str:
    metadata: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    return str(metadata.get("HTTPHeaders", {}).get(name, ""))


def _unanswered(error: Exception, doing: str, where: str, endpoint: str) -> MountkitError:
    """The request never got an answer: no credentials, no route, no sense."""
    found = _local_credentials(error, doing, where) or _local_setting(error, where, endpoint)
    return found or _no_route(error, doing, where, endpoint)


def _local_credentials(error: Exception, doing: str, where: str) -> MountkitError | None:
    from botocore import exceptions as known

    if isinstance(error, (known.NoCredentialsError, known.PartialCredentialsError)):
        what = "no" if isinstance(error, known.NoCredentialsError) else "only half of the"
        return ConfigurationError(
            f"There are {what} credentials to {doing} {where} with.", hint=_SET_CREDENTIALS
        )
    if isinstance(error, known.ProfileNotFound):
        return ConfigurationError(
            f"{str(error).rstrip('.')} (needed for {where}).",
            hint="See which there are: aws configure list-profiles",
        )
    fetching = (
        known.CredentialRetrievalError,
        known.MetadataRetrievalError,
        known.NoAuthTokenError,
        known.SSOError,
        known.TokenRetrievalError,
    )
    if isinstance(error, fetching):
        # What a credential process printed may be a credential: only the kind of error is named.
        return PermissionDeniedError(
            f"The credentials for {where} could not be fetched ({type(error).__name__}).",
            hint="Log in again and look at the outcome: aws sts get-caller-identity",
        )
    return None


def _local_setting(error: Exception, where: str, endpoint: str) -> MountkitError | None:
    from botocore import exceptions as known

    if isinstance(error, (known.ConfigParseError, known.ConfigNotFound)):
        return ConfigurationError(
            f"The AWS configuration file cannot be read (needed for {where}).",
            hint="Check it: aws configure list",
        )
    if isinstance(error, (known.NoRegionError, known.InvalidRegionError)):
        return ConfigurationError(
            f"No valid region is set for {where}.", hint="Name it: --region eu-central-1"
        )
    if isinstance(error, known.ParamValidationError):
        return ConfigurationError(
            f"{where} is not a place a store can have ({_last_line(error)}).",
            hint="Correct the bucket's name: 3 to 63 lower-case letters, digits, dots and dashes.",
        )
    if isinstance(error, (known.InvalidEndpointConfigurationError, ValueError)):
        return ConfigurationError(
            f"{safe_url(endpoint) or 'The endpoint'} is not the URL of a store.",
            hint="Give one such as --endpoint-url https://s3.example.org",
        )
    return None


def _no_route(error: Exception, doing: str, where: str, endpoint: str) -> MountkitError:
    from botocore import exceptions as known

    store = f"store at {safe_url(endpoint)}" if endpoint else "store"
    flag = " and --endpoint-url" if endpoint else ""
    if isinstance(error, known.SSLError):
        return MountUnavailableError(
            f"The certificate of the {store} was not accepted when asked to {doing} {where}.",
            hint="Name the file with its authority: export AWS_CA_BUNDLE=ca.pem",
        )
    if isinstance(error, (known.ConnectionError, known.HTTPClientError, known.IncompleteReadError)):
        return MountUnavailableError(
            f"The {store} could not be reached to {doing} {where} ({type(error).__name__}).",
            hint=f"Check the network{flag}, then: mountkit doctor {where}",
        )
    return MountUnavailableError(
        f"The request to {doing} {where} failed before it was sent ({type(error).__name__}).",
        hint=f"Look at the settings, then: mountkit doctor {where}",
    )


def _last_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[-1].strip() if lines else type(error).__name__
