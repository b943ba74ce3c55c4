"""A name node has two addresses: one for its own protocol, which rclone speaks, and WebHDFS's."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mountkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

USER = "HADOOP_USER_NAME"
RPC_PORT, HTTP_PORT = 8020, 9870
_HINT = "Give that of WebHDFS, such as --endpoint-url http://namenode:9870"


def user(environment: Mapping[str, str]) -> str:
    """Who asks. Without Kerberos a name node believes whoever says so."""
    try:
        return environment.get(USER) or getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number that has no name.
        return "mountkit"


def webhdfs(bucket: str, endpoint: str | None) -> str:
    """Where WebHDFS is: where it was said to be, or on the name node's usual port.

    Raises ConfigurationError if what was said is no URL, or carries credentials.
    """
    if not endpoint:
        return f"http://{bucket.rpartition(':')[0]}:{HTTP_PORT}"
    try:
        parts = urlsplit(endpoint)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ConfigurationError("The endpoint is not a URL.", hint=_HINT) from None
    if "@" in parts.netloc:
        raise ConfigurationError(
            "The endpoint URL carries credentials; they would end up in logs.",
            hint=f"Say who asks: export {USER}=NAME",
        )
    if not fine:
        raise ConfigurationError(f"{endpoint!r} is not the URL of WebHDFS.", hint=_HINT)
    return endpoint.rstrip("/")
