"""What is Azure's own: URLs, variables, and how rclone reaches it."""

from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from mountkit.errors import UsageError
from mountkit.spec import Source, StoreOptions
from mountkit.store.az import account, errors
from mountkit.store.az.store import AzStore
from mountkit.store.base import RcloneRemote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.timing import Deadline

OPTIONS = "azureblob-"
EXAMPLE = (
    "Give a URL such as az://my-container/run-1 or "
    "abfs://my-container@my-account.dfs.core.windows.net/run-1."
)
# A container's name, and, behind an @, that of an account with or without its host.
PLACE = re.compile(r"[a-z0-9$][a-z0-9-]*(?:@[a-z0-9]+(?:[.][a-z0-9.-]+)?)?")
CONFIGURATION: Mapping[str, str] = MappingProxyType(
    {
        "type": "azureblob",
        # Nothing is asked of a container but its objects, and none is created.
        "no_check_container": "true",
        # rclone would read each file twice for an MD5 that only repeats the client's own word.
        "disable_checksum": "true",
    }
)


class AzProvider:
    """``az://``, ``abfs://``, ``adl://``; see :class:`mountkit.store.base.Provider`."""

    # A login is the daemon's affair, too; a key or a signature is not: it is told them in private.
    variables: ClassVar[re.Pattern[str]] = re.compile(
        r"AZURE_(?:CLIENT_.*|TENANT_ID|USERNAME|AUTHORITY_HOST|FEDERATED_TOKEN_FILE|CONFIG_DIR)"
        r"|IDENTITY_ENDPOINT|IDENTITY_HEADER|MSI_ENDPOINT|MSI_SECRET"
    )
    file_variables: ClassVar[tuple[str, ...]] = (
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_CLIENT_CERTIFICATE_PATH",
        "AZURE_CONFIG_DIR",
    )
    credentials: ClassVar[str] = (
        "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY"
    )
    daemon_credentials: ClassVar[str] = "AZURE_STORAGE_* as mountkit was started with"
    rclone_owned: ClassVar[frozenset[str]] = frozenset(
        {f"{OPTIONS}{name}" for name in ("account", "endpoint", "env-auth", "disable-checksum")}
    )

    def parse(self, url: str) -> Source:
        """``az://container/prefix``, or ``abfs://container@account.dfs.core.windows.net/prefix``."""
        scheme, _, rest = url.partition("://")
        place, _, path = rest.partition("/")
        if not place:
            raise UsageError(f"{url!r} names no container.", hint=EXAMPLE)
        if not PLACE.fullmatch(place):
            raise UsageError(
                "The source URL does not begin with a container, or a container and an account. "
                "Credentials in it would end up in logs.",
                hint=f"{EXAMPLE} Give credentials as {self.credentials}.",
            )
        segments = [segment for segment in path.split("/") if segment]
        if any(segment in {".", ".."} for segment in segments):
            raise UsageError(f"{url!r} has '.' or '..' in its path.", hint=EXAMPLE)
        return Source(scheme, place, "/".join(segments))

    def refusal_in(self, text: str) -> float | None:
        """By the code that Azure answered with, as rclone repeats it."""
        return errors.refused_in(text)

    def options(self, given: StoreOptions, environment: Mapping[str, str]) -> StoreOptions:
        """Where the account is: part of what a mount is named after. Regions are S3's."""
        return StoreOptions(endpoint_url=account.url_of(given.endpoint_url, environment))

    def environment(self, options: StoreOptions) -> Mapping[str, str]:  # noqa: ARG002
        """Nothing beside the variables."""
        return {}

    def open(
        self,
        source: Source,
        options: StoreOptions,
        *,
        patience: float | None = None,
        deadline: Deadline | None = None,
    ) -> AzStore:
        """A container, or a place in one."""
        return AzStore(source, options, patience=patience, deadline=deadline)

    def rclone_remote(
        self,
        source: Source,
        options: StoreOptions,
        tag: tuple[str, str],  # noqa: ARG002 - a blob that is overwritten keeps the old one's
    ) -> RcloneRemote:
        """Everything about the connection; a key is told when a daemon starts."""
        path = f"{account.container(source)}/{source.prefix}".rstrip("/")
        return RcloneRemote(
            CONFIGURATION, path, OPTIONS, private=lambda: {"": _private(source, options)}
        )

    def list_command(self, url: str) -> str:
        """With Azure's command-line tools."""
        return f"az storage blob list {_words(url)}"

    def delete_command(self, url: str) -> str:
        """With Azure's command-line tools."""
        return f"az storage blob delete-batch {_words(url)}"


def _private(source: Source, options: StoreOptions) -> Mapping[str, str]:
    found = account.find(source, options.endpoint_url, os.environ)
    if found.connection_string:
        return {"connection_string": found.connection_string}
    return {"env_auth": "true", "account": found.name, "endpoint": found.url}


def _words(url: str) -> str:
    place, _, prefix = url.partition("://")[2].partition("/")
    return f"--container-name {place.partition('@')[0]} --prefix {prefix} # {url}"
