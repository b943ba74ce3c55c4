"""The client for a container: credentials, time limits, and where its errors become ours.

With ``errors`` and ``store`` the only importer of Azure's library, which is loaded on first use.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mountkit.errors import ConfigurationError
from mountkit.store.az import account, errors
from mountkit.store.place import ATTEMPTS, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mountkit.errors import MountkitError
    from mountkit.store.az.account import Account

INSTALL = "pip install 'mountkit[az]'"
BACKOFF_SECONDS = 0.5
CONNECT_SECONDS = 5.0


class Connection(Place):
    """The client for one source, made on first use and shared by threads."""

    def _prepare(self) -> None:
        self._lock = threading.RLock()
        self._made: list[tuple[Account, Any]] = []

    @property
    def endpoint(self) -> str:
        """Where its requests go."""
        return self.account.url

    @property
    def account(self) -> Account:
        """The account, and what opens it."""
        return account.find(self.source, self.options.endpoint_url, os.environ)

    def container(self) -> Any:
        """The client; made once, and again when the variables say something else by now."""
        found = self.account
        with self._lock:
            if not self._made or self._made[0][0] != found:
                self._made[:] = [(found, self._make(found))]
            return self._made[0][1]

    def blob(self, path: str) -> Any:
        """The client for one object."""
        return self.container().get_blob_client(self.source.key(path))

    def _make(self, found: Account) -> Any:
        from azure.storage.blob import ContainerClient

        return ContainerClient(
            found.url,
            account.container(self.source),
            credential=_credential(found, self.source.url),
            # Of its own accord the library tries a refused connection again for 80 s.
            retry_total=ATTEMPTS - 1,
            retry_connect=ATTEMPTS - 1,
            retry_read=ATTEMPTS - 1,
            retry_backoff_factor=BACKOFF_SECONDS,
            initial_backoff=BACKOFF_SECONDS,
            increment_base=1,
            # Of its own accord up to 3 s more for each, longer than a preflight may take.
            random_jitter_range=BACKOFF_SECONDS,
        )

    def asking(self) -> Mapping[str, Any]:
        """The time limits of one request."""
        self.deadline.check()
        seconds = self.deadline.cut(self.patience) / ATTEMPTS
        return {
            "connection_timeout": min(CONNECT_SECONDS, max(1.0, seconds)),
            "read_timeout": max(1.0, seconds),
        }

    @contextmanager
    def translated(self, doing: str, path: str = "") -> Iterator[None]:
        """Turn what Azure's library raises inside into errors of ours that name the object."""
        try:
            from azure.core.exceptions import AzureError
        except ImportError as error:
            raise ConfigurationError(
                f"{self.source.url} needs azure-storage-blob, which cannot be imported ({error}).",
                hint=f"Install it: {INSTALL}",
            ) from error
        try:
            yield
        except (AzureError, ValueError) as error:
            found = self.account
            raise errors.translate(
                error,
                doing=doing,
                where=self.url(path),
                endpoint=found.url,
                secrets=found.secrets,
            ) from error

    def credentials(self) -> str:
        """Find them; what kind they are, never what they are."""
        with self.translated("connect to"):
            self.container()
        return self.account.how

    def no_credentials(self) -> MountkitError:
        """They were looked for until the time was up."""
        return ConfigurationError(
            f"There are no credentials for {self.source.url}.", hint=account.SET
        )


def _credential(found: Account, where: str) -> Any:
    """In the library's own form.

    Raises ConfigurationError if there is neither a key nor a signature, nor a way to log in.
    """
    if found.key:
        return {"account_name": found.name, "account_key": found.key}
    if found.sas:
        from azure.core.credentials import AzureSasCredential

        return AzureSasCredential(found.sas)
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError:
        raise ConfigurationError(
            f"There are no credentials for {where}, and azure-identity is not installed for a "
            "login or a managed identity.",
            hint=f"{account.SET} Or: pip install azure-identity",
        ) from None
    return DefaultAzureCredential()
