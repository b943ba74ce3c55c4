"""Clients for a bucket: credentials, time limits, and the one place where their errors become ours.

With ``errors`` the only importer of botocore, which it loads on first use. boto3 would be a fifth
more to load, in each process that asks a store, and only pass on what is asked here.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from mountkit._version import __version__
from mountkit.errors import ConfigurationError, PermissionDeniedError
from mountkit.store.place import ATTEMPTS, Place
from mountkit.store.s3 import error_codes, errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.config import Config
    from botocore.credentials import Credentials
    from botocore.loaders import Loader
    from botocore.session import Session
    from mypy_boto3_s3 import S3Client


POOL_CONNECTIONS = 32


class Connection(Place):
    """The session and the clients for one source, made on first use and shared by threads."""

    def _prepare(self) -> None:
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._clients: dict[bool, S3Client] = {}

    def session(self) -> Session:
        """The credentials and settings in use; made once."""
        from botocore.session import Session

        with self._lock:
            if self._session is None:
                session = Session(profile=self.options.profile)
                loader = _loader(session.get_config_variable("data_path"))
                session.register_component("data_loader", loader)
                parsers = session.get_component("response_parser_factory")
                parsers.set_parser_defaults(timestamp_parser=_moment)
                if self.options.region is not None:
                    session.set_config_variable("region", self.options.region)
                self._session = session
            return self._session

    def credentials(self) -> Credentials:
        """The credentials in use. Raises botocore's own error, for ``translated``, without any."""
        from botocore.exceptions import NoCredentialsError

        found = self.session().get_credentials()
        if found is None:
            raise NoCredentialsError
        return found

    def client(self, *, quick: bool = False) -> S3Client:
        """The client for work, or one that gives up soon, for a first look; each made once.

        The one for work is made anew as a deadline comes near, which a signal may set at any time.

        Raises TimeUpError if the deadline has passed.
        """
        self.deadline.check()
        with self._lock:
            patience = self.deadline.cut(self.patience)
            if False not in self._clients or patience <= self.patience / 2:
                self.patience = patience
                self._clients.pop(False, None)
            if quick not in self._clients:
                self._clients[quick] = self._connect(quick=quick)
            return self._clients[quick]

    def _connect(self, *, quick: bool) -> S3Client:
        from botocore.config import Config

        _check_endpoint(self.options.endpoint_url)
        config = Config(
            connect_timeout=2 if quick else min(5.0, max(1.0, self.patience / ATTEMPTS)),
            read_timeout=4 if quick else max(1.0, self.patience / ATTEMPTS),
            retries={"mode": "standard", "total_max_attempts": 2 if quick else ATTEMPTS},
            max_pool_connections=POOL_CONNECTIONS,
            # Stores other than AWS refuse the checksums botocore adds by itself; ours are explicit.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if self.options.endpoint_url else "auto"},
            user_agent_extra=f"mountkit/{__version__}",
        )
        return self._make(config)

    def _make(self, config: Config) -> S3Client:
        from botocore.exceptions import BotoCoreError

        session = self.session()
        try:
            client = session.create_client(
                "s3", endpoint_url=self.options.endpoint_url, config=config
            )
        except BotoCoreError:
            # Some of these are ValueErrors as well; ``translated`` knows them better.
            raise
        except ValueError as error:
            raise _not_made(error, self.source.url) from error
        return cast("S3Client", client)

    @contextmanager
    def translated(self, doing: str, path: str = "") -> Iterator[None]:
        """Turn what botocore raises inside into errors of ours that name the object."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except RuntimeError as error:
            # What botocore raises for credentials that have expired and were not renewed.
            if "credentials" not in str(error).lower():
                raise
            expired = PermissionDeniedError(
                f"The credentials for {self.url(path)} have expired: {error}",
                hint="Renew them, then: mountkit doctor " + self.source.url,
            )
            expired.may_pass = error_codes.PASSING_SECONDS
            raise expired from error
        except (BotoCoreError, ClientError) as error:
            raise errors.translate(
                error,
                doing=doing,
                where=self.url(path),
                endpoint=self.options.endpoint_url or "",
                secrets=self._secrets(),
            ) from error

    def _secrets(self) -> tuple[str, ...]:
        """What must never be printed, were a store to quote it."""
        from botocore.exceptions import BotoCoreError

        if self._session is None:
            return ()
        try:
            credentials = self._session.get_credentials()
            if credentials is None:
                return ()
            frozen = credentials.get_frozen_credentials()
        except (BotoCoreError, RuntimeError):
            return ()  # The error at hand is about to say that they cannot be had.
        return tuple(filter(None, (frozen.secret_key, frozen.token)))


def _moment(value: str | float) -> datetime:
    """A date as stores write it. botocore guesses at its form, for a tenth of a proof's time."""
    from botocore.utils import parse_timestamp

    try:
        text = str(value)
        found = parsedate_to_datetime(text) if text[:1].isalpha() else datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        # A number, too, which its stub does not know.
        found = parse_timestamp(cast("str", value))
    return found


@lru_cache
def _loader(data_path: str | None) -> Loader:
    """What reads the description of S3: once a process, for it takes longer than many requests."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


def _not_made(error: ValueError, where: str) -> ConfigurationError:
    """What botocore means with the plain ValueError of a client that it does not make."""
    # botocore 1.44, ``endpoint.py``. The endpoint may be the profile's, which is not checked here.
    said, _, url = str(error).partition(": ")
    if said == "Invalid endpoint":
        return ConfigurationError(
            f"botocore does not accept the host name of {errors.safe_url(url)}: it may have "
            "letters, digits, hyphens and dots, but no underscore.",
            hint="Reach the store at its IP address or by another name, such as an alias of the "
            "service in Compose: --endpoint-url http://minio:9000",
        )
    return ConfigurationError(
        f"botocore cannot make a client for {where} of the settings it finds: {error}.",
        hint="Correct the AWS_* variable or the line of ~/.aws/config that says so.",
    )


def _check_endpoint(url: str | None) -> None:
    if url is None:
        return
    hint = "Give one such as --endpoint-url https://s3.example.org"
    try:
        parts = urlsplit(url)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ConfigurationError("The endpoint is not a URL.", hint=hint) from None
    if "@" in parts.netloc:
        raise ConfigurationError(
            f"The endpoint URL {errors.safe_url(url)} carries credentials; they would end up "
            "in logs.",
            hint="Give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or with --profile.",
        )
    if not fine:
        raise ConfigurationError(f"{url!r} is not the URL of a store.", hint=hint)
