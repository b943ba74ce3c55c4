"""What rclone says when something fails, and which of our errors that is.

rclone answers in words, which differ from backend to backend: what is known of them stands here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    PermissionDeniedError,
)
from mountkit.formatting import printable

if TYPE_CHECKING:
    from mountkit.store.remote.configuration import Remote

#: It is not there; of a file, and of a directory or bucket.
NO_OBJECT = re.compile(r"object not found|file does not exist|no such file", re.IGNORECASE)
NO_DIRECTORY = re.compile(r"directory not found|bucket not found|NoSuchBucket", re.IGNORECASE)

CREDENTIALS = re.compile(
    r"unable to authenticate|no supported methods remain|\b401\b|Unauthorized|invalid_grant"
    r"|InvalidAccessKeyId|SignatureDoesNotMatch|AuthenticationFailed|InvalidCredentials"
    r"|login incorrect|530 |empty token|token expired|oauth2: ",
    re.IGNORECASE,
)
FORBIDDEN = re.compile(
    r"permission denied|access denied|AccessDenied|\b403\b|Forbidden|read-only file system"
    r"|insufficient permission|not permitted|\b405\b",
    re.IGNORECASE,
)
CONFIGURATION = re.compile(
    r"didn't find section in config|didn't find backend called|couldn't decrypt|"
    r"is it obscured|knownhosts: |host key|couldn't parse|failed to parse|failed to read private "
    r"key|couldn't read ssh key|unknown encryption|not found in config|invalid .*url|must set|"
    r"missing.*(?:url|host|account)|need either",
    re.IGNORECASE,
)
FULL = re.compile(r"no space left|quota|insufficient storage|\b507\b", re.IGNORECASE)
# Some seconds, for a store that denies access once may only be taking in a change.
DENIED_SECONDS = 3.0


def translate(text: str, remote: Remote, *, doing: str, where: str) -> MountkitError:
    """Say what a failed call means, and what to do next.

    ``text`` is what rclone said, ``doing`` a verb for the message, ``where`` the URL.
    """
    said = printable(remote.without_secrets(" ".join(text.split())))
    where = printable(where)
    doctor = f"mountkit doctor {where}"
    if CONFIGURATION.search(said):
        return ConfigurationError(
            f"rclone cannot use the remote {remote.name!r}: {said}.",
            hint=f"Correct its configuration: rclone config update {remote.name}. Then: {doctor}",
        )
    if CREDENTIALS.search(said):
        return PermissionDeniedError(
            f"The store refused the credentials of the remote {remote.name!r} for {where}: {said}.",
            hint=f"Correct them: rclone config update {remote.name}. Then: {doctor}",
        )
    if FORBIDDEN.search(said):
        denied = PermissionDeniedError(
            f"The store does not allow the remote {remote.name!r} to {doing} {where}: {said}.",
            hint=f"Give its user that right, then: {doctor}",
        )
        denied.may_pass = DENIED_SECONDS
        return denied
    if FULL.search(said):
        return MountUnavailableError(
            f"The store has no room to {doing} {where}: {said}.", hint=f"Make room, then: {doctor}"
        )
    return MountUnavailableError(
        f"The store could not be reached to {doing} {where}: {said}.",
        hint=f"Check the network and the address of the remote {remote.name!r}, then: {doctor}",
    )


def refused_in(text: str) -> float | None:
    """For how many seconds a refusal that a daemon quotes may pass; None if it quotes none."""
    if CREDENTIALS.search(text) or CONFIGURATION.search(text):
        return 0.0
    return DENIED_SECONDS if FORBIDDEN.search(text) else None
