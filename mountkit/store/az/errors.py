"""What a failed request means: from the exceptions of Azure's library to mountkit's errors."""

from __future__ import annotations

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
from mountkit.store.az.account import SET
from mountkit.store.base import ObjectChangedError, ObjectMissingError

if TYPE_CHECKING:
    from collections.abc import Mapping

HTTP_MISSING, HTTP_CONFLICT, HTTP_PRECONDITION, HTTP_BUSY = 404, 409, 412, 429
LONGEST_QUOTE = 200
# A right that was just given takes a moment.
DENIED_SECONDS = 3.0

#: What Azure calls the right to do what a request does, by the word for it in our messages.
RIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "list": "List (l)",
        "read": "Read (r)",
        "attest": "Read (r)",
        "write": "Create and Write (cw)",
        "delete": "Delete (d)",
    }
)
_ROLE = "the role Storage Blob Data Contributor has all that a run needs"
_NO_CONTAINER = ("ContainerNotFound", "ContainerBeingDeleted", "FilesystemNotFound")
_CREDENTIALS = frozenset(
    {
        "AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation",
        "AccountIsDisabled", "KeyBasedAuthenticationNotPermitted",
    }
)  # fmt: skip
_DENIED = re.compile(
    r"AuthorizationFailure|AuthorizationPermissionMismatch|InsufficientAccountPermissions"
    r"|AuthorizationProtocolMismatch|AuthorizationSourceIPMismatch|RESPONSE 403"
)


def code_of(error: BaseException) -> str:
    """Azure's word for the error, or "" if it has none."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


def status_of(error: BaseException) -> int:
    """The HTTP status of Azure's answer, or 0 if there was none."""
    return int(getattr(error, "status_code", None) or 0)


def no_container(error: BaseException) -> bool:
    """Whether a 404 is about the container, and not about a blob in it."""
    return code_of(error) in _NO_CONTAINER


def refused_in(text: str) -> float | None:
    """For how many seconds a refusal that rclone quotes may pass; None if it quotes none."""
    if any(word in text for word in (*_CREDENTIALS, *_NO_CONTAINER)):
        return 0.0
    return DENIED_SECONDS if _DENIED.search(text) else None


def translate(
    error: Exception, *, doing: str, where: str, endpoint: str, secrets: tuple[str, ...] = ()
) -> MountkitError:
    """Say what a failed request means and what to do next.

    ``doing``: ``list``, ``read``, ``attest``, ``write``, ``delete``, or another verb for the
    message. ``where``: The URL of the object, the prefix or the container. ``endpoint``: The URL of
    the account. ``secrets``: What must not be in the message, whatever the store quotes.
    """
    if isinstance(error, MountkitError):
        return error
    where = printable(where)
    found = _answered(error, doing, where) if status_of(error) else None
    found = found or _unanswered(error, doing, where, endpoint)
    message, hint = found.message, found.hint
    for secret in secrets:
        message, hint = message.replace(secret, "***"), hint.replace(secret, "***")
    told = type(found)(message, hint=hint)
    told.may_pass = found.may_pass
    return told


def _answered(error: Exception, doing: str, where: str) -> MountkitError:
    status, code = status_of(error), code_of(error)
    quote = f"HTTP {status}: {code or _line(str(error))}"
    name = where.partition("://")[2].partition("/")[0].partition("@")[0]
    if status == HTTP_MISSING and (no_container(error) or doing in {"list", "write"}):
        return ConfigurationError(
            f"There is no container {name!r} (asked to {doing} {where}; {quote}).",
            hint=f"Create it, or correct its name: az storage container create --name {name}",
        )
    if status == HTTP_MISSING:
        return ObjectMissingError(
            f"{where} is not in the container ({quote}).",
            hint=f"See what is: az storage blob list --container-name {name}",
        )
    if status == HTTP_PRECONDITION or (status == HTTP_CONFLICT and doing == "read"):
        return ObjectChangedError(
            f"{where} was replaced while it was being read ({quote}).",
            hint=f"See who else writes there, then: mountkit verify {where.rpartition('/')[0]}",
        )
    if status == 401 or code in _CREDENTIALS:
        return PermissionDeniedError(
            f"The store refused the credentials for {where} ({quote}).",
            hint=f"{SET} A key or a signature is of one account, and a signature ends. Mind this "
            "machine's clock, too.",
        )
    if status == 403:
        found = PermissionDeniedError(
            f"The store does not allow these credentials to {doing} {where} ({quote}).",
            hint=f"Allow {RIGHTS.get(doing, 'it')} on the container ({_ROLE}), then: "
            f"mountkit doctor {where}",
        )
        found.may_pass = DENIED_SECONDS
        return found
    if code in {"Md5Mismatch", "InvalidMd5"}:
        return NotDurableError(
            f"{where} was damaged on its way to the store, which did not keep it ({quote}).",
            hint="Try again; if it happens often, check this machine's memory and network.",
        )
    if code in {"InvalidResourceName", "OutOfRangeInput", "InvalidUri"} and doing == "list":
        return ConfigurationError(
            f"{name!r} is not a name a container can have ({quote}).",
            hint="See which there are: az storage container list",
        )
    busy = status >= 500 or status == HTTP_BUSY
    return MountUnavailableError(
        f"The store {'was too busy or failed' if busy else 'refused'} when asked to {doing} "
        f"{where} ({quote}).",
        hint=f"Try again in a while, such as: mountkit latest {where}",
    )


def _unanswered(error: Exception, doing: str, where: str, endpoint: str) -> MountkitError:
    from azure.core.exceptions import ClientAuthenticationError

    if isinstance(error, ClientAuthenticationError):
        return ConfigurationError(
            f"There are no credentials for {where} ({_line(str(error))}).", hint=SET
        )
    if isinstance(error, ValueError):
        return ConfigurationError(
            f"The account of {where} cannot be used as it is set ({_line(str(error))}).", hint=SET
        )
    return MountUnavailableError(
        f"The store at {endpoint} could not be reached to {doing} {where} "
        f"({type(error).__name__}).",
        hint=f"Check the network and the name of the account, then: mountkit doctor {where}",
    )


def _line(text: str) -> str:
    return printable(" ".join(text.split())[:LONGEST_QUOTE].rstrip("."))
