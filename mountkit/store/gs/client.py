"""The client for a bucket: credentials, time limits, and where its errors become ours.

With ``errors`` the only importer of Google's libraries, which are loaded on first use.
"""

from __future__ import annotations

import itertools
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mountkit._version import __version__
from mountkit.errors import ConfigurationError, MountUnavailableError
from mountkit.store.gs import endpoints, errors
from mountkit.store.place import ATTEMPTS, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mountkit.errors import MountkitError
    from mountkit.spec import StoreOptions

POOL_CONNECTIONS = 32
SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
INSTALL = "pip install 'mountkit[gs]'"


class Session:
    """Google's client for one endpoint, made on first use and shared by threads."""

    def __init__(self, options: StoreOptions) -> None:
        self._options = options
        self._lock = threading.RLock()
        self._credentials: Any = None
        self._client: Any = None
        self._heard = threading.local()

    def credentials(self) -> Any:
        """Those that Google's libraries find. Raises their own error, for ``translated``."""
        with self._lock:
            if self._credentials is None:
                if endpoints.is_anonymous(os.environ):
                    from google.auth.credentials import AnonymousCredentials

                    self._credentials = AnonymousCredentials()
                else:
                    # Where no machine's own server answers, three tries take 13 s.
                    os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "2")
                    import google.auth

                    self._credentials, _ = google.auth.default(scopes=SCOPES)
            return self._credentials

    def client(self) -> Any:
        """Google's client."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Any:
        from google.api_core.client_info import ClientInfo
        from google.auth.transport.requests import AuthorizedSession
        from google.cloud.storage import Client
        from requests.adapters import HTTPAdapter

        # For its traces it would ask about the bucket, too, which takes one more right.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        url = endpoints.checked(self._options.endpoint_url)
        credentials = self.credentials()
        session = AuthorizedSession(credentials)
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=POOL_CONNECTIONS))
        session.hooks["response"].append(self._hear)
        return Client(
            # Objects need none; without one the library would go and look for it.
            project="mountkit",
            credentials=credentials,
            _http=session,
            client_info=ClientInfo(user_agent=f"mountkit/{__version__}"),
            client_options={"api_endpoint": url} if self._options.endpoint_url else None,
        )

    def _hear(self, response: Any, *_: Any, **__: Any) -> None:
        self._heard.headers = response.headers

    def heard(self) -> Mapping[str, str]:
        """The headers of the last answer to this thread."""
        found: Mapping[str, str] = getattr(self._heard, "headers", {})
        return found


class Connection(Place):
    """One source of a session."""

    def _prepare(self) -> None:
        self.session = Session(self.options)

    @property
    def endpoint(self) -> str:
        """Where requests go."""
        return endpoints.checked(self.options.endpoint_url)

    def bucket(self) -> Any:
        """Google's object for the bucket; nothing is asked.

        Raises TimeUpError if the deadline has passed.
        """
        self.deadline.check()
        return self.session.client().bucket(self.source.bucket)

    def blob(self, path: str, generation: int | None = None) -> Any:
        """Google's object for a path; nothing is asked."""
        return self.bucket().blob(self.source.key(path), generation=generation)

    def asking(self) -> dict[str, Any]:
        """How long a request may take, and how often it is made again; for one request each."""
        from google.api_core.retry import Retry

        patience = self.deadline.cut(self.patience)
        each = max(1.0, patience / ATTEMPTS)
        count = itertools.count(1)
        retry = Retry(
            predicate=lambda error: next(count) < ATTEMPTS and errors.passes(error),
            initial=0.3,
            maximum=2.0,
            timeout=patience,
        )
        return {"timeout": (min(5.0, each), each), "retry": retry}

    @contextmanager
    def translated(self, doing: str, path: str = "") -> Iterator[None]:
        """Turn what Google's libraries raise inside into errors of ours that name the object."""
        try:
            import requests
            from google.api_core.exceptions import GoogleAPIError
            from google.auth.exceptions import GoogleAuthError
            from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
        except ImportError as error:
            raise missing_library(error, self.source.url) from error
        known = (GoogleAPIError, GoogleAuthError, InvalidResponse, requests.RequestException)
        try:
            yield
        except DataCorruption as error:
            raise MountUnavailableError(
                f"{self.url(path)} was damaged on its way from the store.",
                hint=f"Try again: mountkit doctor {self.source.url}",
            ) from error
        except known as error:
            endpoint = self.endpoint if self.options.endpoint_url else ""
            raise errors.translate(
                error, doing=doing, where=self.url(path), endpoint=endpoint
            ) from error

    def credentials(self) -> str:
        """Find the credentials; what kind they are, never what they are."""
        with self.translated("connect to"):
            found = self.session.credentials()
            self.session.client()
        # google.oauth2.service_account, google.auth.compute_engine.credentials, ...
        names = type(found).__module__.removesuffix(".credentials").split(".")
        return {"oauth2": "user", "auth": "none"}.get(names[-1], names[-1])

    def no_credentials(self) -> MountkitError:
        """They were looked for until the time was up: the last place is a machine's own server."""
        return errors.no_credentials(self.source.url, "no metadata server answered")


def missing_library(error: ImportError, where: str) -> ConfigurationError:
    """What it means that Google's library cannot be imported."""
    return ConfigurationError(
        f"{where} needs google-cloud-storage, which cannot be imported ({error}).",
        hint=f"Install it: {INSTALL}",
    )
