"""Where credentials come from, and how long they last. No I/O, and never what they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from mountkit.doctor.findings import Finding
from mountkit.formatting import span

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME, TITLE = "credentials", "credentials"
RENEW = "For a longer run, use a role or a profile that renews itself: --profile NAME"

#: botocore's names for the places it looks in.
PLACES: Mapping[str, str] = MappingProxyType(
    {
        "env": "the environment",
        "shared-credentials-file": "the shared credentials file",
        "config-file": "the AWS configuration file",
        "assume-role": "an assumed role",
        "assume-role-with-web-identity": "a web identity (a Kubernetes service account)",
        "container-role": "the container's role",
        "iam-role": "this machine's role",
        "sso": "a single sign-on",
        "login": "aws login",
        "custom-process": "a credential process",
    }
)
#: Nobody puts new ones there while a process runs.
FIXED = frozenset({"env", "shared-credentials-file", "config-file"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """What may be known of them: ``method`` is botocore's word for where they come from.

    ``temporary`` tells that they have a session token, ``expires`` when they end, if that is known.
    """

    method: str
    temporary: bool
    expires: datetime | None


def judge(credentials: Credentials, now: datetime) -> Finding:
    """Whether they last as long as a run may."""
    place = f"from {PLACES.get(credentials.method, credentials.method)}"
    fixed = credentials.method in FIXED
    if credentials.expires is None:
        if not credentials.temporary:
            return Finding(NAME, TITLE, "ok", f"{place}; they do not expire by themselves")
        if not fixed:
            return Finding(NAME, TITLE, "ok", f"{place}; renewed as needed")
        return Finding(
            NAME,
            TITLE,
            "warning",
            f"They are {place} and temporary; nothing says when they expire, and nothing renews "
            "them. No save works after that.",
            RENEW,
        )
    end = credentials.expires.astimezone(UTC)
    until = f"until {end:%Y-%m-%d %H:%M} UTC (in {span((end - now).total_seconds())})"
    if not fixed:
        return Finding(NAME, TITLE, "ok", f"{place}; good {until}, then renewed")
    return Finding(
        NAME,
        TITLE,
        "warning",
        f"They are {place}, good {until}, and nothing renews them. No save works after that.",
        RENEW,
    )
