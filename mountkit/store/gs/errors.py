"""What a failed request means: from the exceptions of Google's libraries to mountkit's errors."""

from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    NotDurableError,
    PermissionDeniedError,
)
from mountkit.formatting import printable
from mountkit.store.base import ObjectChangedError, ObjectMissingError
from mountkit.store.gs import endpoints

if TYPE_CHECKING:
    from collections.abc import Mapping

HTTP_REFUSED = 401
HTTP_FORBIDDEN = 403
HTTP_MISSING = 404
HTTP_CONFLICT = 409
HTTP_PRECONDITION = 412
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})

# For so long a refusal is asked about again: a token is being renewed; a right was just given.
PASSING_SECONDS = 15.0
DENIED_SECONDS = 3.0
LONGEST_QUOTE = 200

#: What Google calls the right to do what a request does, by the word for it in our messages.
#: To write over an object takes the right to delete it.
RIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "list": "storage.objects.list",
        "read": "storage.objects.get",
        "attest": "storage.objects.get",
        "write": "storage.objects.create",
        "delete": "storage.objects.delete",
    }
)
_ROLE = "roles/storage.objectUser has all that a run needs"

# What Google answers with 403 and 404 beside what those mean by themselves.
_BUSY = re.compile(r"rateLimitExceeded|userRateLimitExceeded|rate limit|Error 429|Error 50[0234]")
_NO_BUCKET = re.compile(r"bucket does not exist|bucketNotFound", re.IGNORECASE)
# Of the token's server: what asks for it is wrong, and stays so.
_WRONG = re.compile(r"invalid_grant|invalid_client|unauthorized_client|account_disabled")
_FINAL = re.compile(r"billing account|accountDisabled|project .* (?:deleted|disabled)")


def passes(error: Exception) -> bool:
    """Whether the same request may work a moment later."""
    import requests
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import TransportError

    if isinstance(error, GoogleAPICallError):
        return error.code in TRANSIENT
    broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, (TransportError, *broken))


def status_of(error: BaseException) -> int:
    """The HTTP status of Google's answer, or 0 if there was none."""
    return int(getattr(error, "code", None) or 0)


def names_no_bucket(error: BaseException) -> bool:
    """Whether a 404 is about the bucket, and not about an object in it."""
    return _NO_BUCKET.search(str(error)) is not None


def refused_in(text: str) -> float | None:
    """For how many seconds a refusal that rclone quotes may pass; None if it quotes none."""
    if _BUSY.search(text):
        return None
    if _WRONG.search(text) or _FINAL.search(text) or _NO_BUCKET.search(text):
        return 0.0
    if f"Error {HTTP_REFUSED}" in text:
        return PASSING_SECONDS
    return DENIED_SECONDS if f"Error {HTTP_FORBIDDEN}" in text else None


def translate(error: Exception, *, doing: str, where: str, endpoint: str = "") -> MountkitError:
    """Say what a failed request means and what to do next.

    ``error``: What a library of Google raised. ``doing``: ``list``, ``read``, ``attest``,
    ``write``, ``delete``, or another verb for the message. ``where``: The URL of the object, the
    prefix or the bucket. ``endpoint``: The URL the requests went to, if it is not Google's.
    """
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth import exceptions as auth

    if isinstance(error, MountkitError):
        return error
    if isinstance(error, RetryError) and isinstance(error.cause, Exception):
        error = error.cause
    where = printable(where)
    if isinstance(error, GoogleAPICallError):
        return _answered(error, doing, where)
    if isinstance(error, auth.DefaultCredentialsError):
        return no_credentials(where, _line(_without_a_key(str(error))))
    if isinstance(error, auth.RefreshError):
        return _refused_token(error, where)
    if isinstance(error, auth.TransportError):
        return MountUnavailableError(
            f"The server that hands out tokens for {where} could not be reached.",
            hint=f"Check the network, then: mountkit doctor {where}",
        )
    return _unanswered(error, doing, where, endpoint)


def no_credentials(where: str, why: str = "") -> ConfigurationError:
    """Google's libraries found none."""
    said = f" ({why})" if why else ""
    return ConfigurationError(
        f"There are no credentials for {where}{said}.",
        hint=f"Name the key of a service account: export {endpoints.CREDENTIALS}=key.json. Or log "
        "in: gcloud auth application-default login",
    )


def _without_a_key(said: str) -> str:
    """The words of Google's libraries, which quote what the variable holds."""
    value = os.environ.get(endpoints.CREDENTIALS, "").strip()
    if value.startswith("{") or "\n" in value:
        return f"{endpoints.CREDENTIALS} holds a key itself, and not the name of a file"
    return said


def _refused_token(error: Exception, where: str) -> MountkitError:
    """Whoever hands out tokens gave none. What was sent is never quoted."""
    said = str(error)
    code = _WRONG.search(said)
    found = PermissionDeniedError(
        f"The credentials for {where} were refused when a token was asked for"
        f"{f' ({code[0]})' if code else ''}.",
        hint=f"Check the key that {endpoints.CREDENTIALS} names, and this machine's clock; or log "
        "in again: gcloud auth application-default login",
    )
    found.may_pass = 0.0 if code else PASSING_SECONDS
    return found


def _answered(error: Exception, doing: str, where: str) -> MountkitError:
    """Google answered, and the answer is no."""
    status, quote = status_of(error), _quote(error)
    bucket = where.partition("://")[2].partition("/")[0]
    if status in TRANSIENT or _BUSY.search(str(error)):
        return MountUnavailableError(
            f"The store was too busy or failed when asked to {doing} {where} ({quote}).",
            hint=f"Try again in a while, such as: mountkit latest {where}",
        )
    if status == HTTP_MISSING:
        # A listing and a write find no object missing.
        if names_no_bucket(error) or doing in {"list", "write"}:
            return ConfigurationError(
                f"There is no bucket {bucket!r} (asked to {doing} {where}; {quote}).",
                hint=f"Create it, or correct its name: gcloud storage buckets create gs://{bucket}",
            )
        return ObjectMissingError(
            f"{where} is not in the bucket ({quote}).",
            hint=f"See what is: gcloud storage ls {where}",
        )
    if status == HTTP_PRECONDITION:
        return ObjectChangedError(
            f"{where} was replaced while it was being read ({quote}).",
            hint=f"See who else writes there, then: mountkit verify {where.rpartition('/')[0]}",
        )
    if status in {HTTP_REFUSED, HTTP_FORBIDDEN}:
        return _denied(status, quote, doing, where)
    if status == 400 and "checksum" in quote.lower():
        return NotDurableError(
            f"{where} was damaged on its way to the store, which did not keep it ({quote}).",
            hint="Try again; if it happens often, check this machine's memory and network.",
        )
    if status == 400 and doing == "list":
        return ConfigurationError(
            f"{bucket!r} is not a name a bucket can have ({quote}).",
            hint="See which buckets there are: gcloud storage ls",
        )
    return MountUnavailableError(
        f"The store refused when asked to {doing} {where} ({quote}).",
        hint=f"Try again in a while, such as: mountkit latest {where}",
    )


def _denied(status: int, quote: str, doing: str, where: str) -> PermissionDeniedError:
    look = f"mountkit doctor {where}"
    if status == HTTP_REFUSED:
        found = PermissionDeniedError(
            f"The store refused the credentials for {where} ({quote}).",
            hint=f"Check which are in use: gcloud auth application-default print-access-token. "
            f"Then: {look}",
        )
        found.may_pass = PASSING_SECONDS
        return found
    right = RIGHTS.get(doing, "")
    found = PermissionDeniedError(
        f"The store does not allow these credentials to {doing} {where} ({quote}).",
        hint=f"Allow {right or 'it'} on the bucket ({_ROLE}), then: {look}",
    )
    found.may_pass = 0.0 if _FINAL.search(quote) else DENIED_SECONDS
    return found


def _unanswered(error: Exception, doing: str, where: str, endpoint: str) -> MountkitError:
    import requests

    store = f"store at {endpoint}" if endpoint else "store"
    if isinstance(error, requests.exceptions.SSLError):
        return MountUnavailableError(
            f"The certificate of the {store} was not accepted when asked to {doing} {where}.",
            hint="Name the file with its authority: export REQUESTS_CA_BUNDLE=ca.pem",
        )
    flag = " and --endpoint-url" if endpoint else ""
    return MountUnavailableError(
        f"The {store} could not be reached to {doing} {where} ({type(error).__name__}).",
        hint=f"Check the network{flag}, then: mountkit doctor {where}",
    )


def _quote(error: Exception) -> str:
    """What Google said, without the request that it begins with."""
    said = str(getattr(error, "message", "") or error)
    _, separator, rest = said.partition(": ")
    return f"HTTP {status_of(error)}: {_line(rest if separator else said)}"


def _line(text: str) -> str:
    return printable(" ".join(text.split())[:LONGEST_QUOTE].rstrip("."))
