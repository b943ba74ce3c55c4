"""What WebHDFS answers with, as errors of ours."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    PermissionDeniedError,
)
from mountkit.formatting import printable
from mountkit.store.base import ObjectMissingError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

DENIED_SECONDS = 3.0
LONGEST_QUOTE = 200

#: What a file system asks for, by the word for what is done in our messages.
RIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "list": "read access (r-x)",
        "read": "read access (r-x)",
        "attest": "read access (r-x)",
        "write": "write access (rwx)",
        "delete": "write access (rwx)",
    }
)

_DENIED = re.compile(r"AccessControlException|[Pp]ermission denied|SecurityException")
# What passes without anybody's help: a name node that starts, or that hands over to another one.
PASSING = frozenset({"RetriableException", "SafeModeException", "StandbyException"})


class HdfsError(Exception):
    """An answer of WebHDFS that is no success.

    ``name`` is that of Java's exception, ``date`` when it was, by the server's own clock.
    """

    def __init__(self, status: int, name: str, message: str, date: datetime | None = None) -> None:
        super().__init__(f"{name}: {message}")
        self.status = status
        self.name = name
        self.message = message
        self.date = date


def refused_in(text: str) -> float | None:
    """For how many seconds a refusal that rclone quotes may pass; None if it quotes none."""
    return DENIED_SECONDS if _DENIED.search(text) else None


def of_the_file(error: HdfsError) -> bool:
    """Whether it says something of the file, rather than of who asks, or of the name node.

    WebHDFS gives any IOException the status of a refusal, 403 (Hadoop 3, ExceptionHandler).
    """
    if error.name in PASSING or error.status == 401:
        return False
    return not _DENIED.search(f"{error.name} {error.message.partition(chr(10))[0]}")


def translate(
    error: HdfsError, *, doing: str, where: str, source: str, endpoint: str
) -> MountkitError:
    """Say what an answer means and what to do next.

    ``doing``: ``list``, ``read``, ``attest``, ``write`` or ``delete``. ``where``: The URL of the
    file. ``source``: The URL of the mount. ``endpoint``: That of WebHDFS.
    """
    where = printable(where)
    # What follows in other lines is where in Java it was.
    said = printable(error.message.partition("\n")[0][:LONGEST_QUOTE].rstrip("."))
    quote = f"{error.name or f'HTTP {error.status}'}: {said}" if said else f"HTTP {error.status}"
    look = f"mountkit doctor {source}"
    if error.name in PASSING or error.status >= 500:
        return MountUnavailableError(
            f"The name node was not ready or failed when asked to {doing} {where} ({quote}).",
            hint=f"Try again in a while, such as: mountkit latest {source}",
        )
    if error.status == 401:
        return PermissionDeniedError(
            f"WebHDFS at {endpoint} wants to know who asks for {where} ({quote}).",
            hint=f"mountkit does not speak Kerberos to WebHDFS yet. Then: {look}",
        )
    if _DENIED.search(f"{error.name} {said}"):
        found = PermissionDeniedError(
            f"The name node does not allow this user to {doing} {where} ({quote}).",
            hint=f"Give the user {RIGHTS.get(doing, 'that right')}, or name another one: export "
            f"HADOOP_USER_NAME=NAME. Then: {look}",
        )
        found.may_pass = DENIED_SECONDS
        return found
    if error.name == "FileNotFoundException":
        return ObjectMissingError(
            f"{where} is not in HDFS ({quote}).", hint=f"See what is: hdfs dfs -ls -R {source}"
        )
    if not error.name:
        return ConfigurationError(
            f"{endpoint} is not WebHDFS: asked to {doing} {where}, it said {quote}.",
            hint="Give the address of the name node's web pages: --endpoint-url "
            "http://namenode:9870",
        )
    return MountUnavailableError(
        f"The name node refused when asked to {doing} {where} ({quote}).",
        hint=f"Try again in a while, such as: mountkit latest {source}",
    )
