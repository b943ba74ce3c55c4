"""Where requests go, if not to Google: an endpoint of one's own, or an emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from mountkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What Google's libraries take for the address of an emulator, which asks for no credentials.
EMULATOR = "STORAGE_EMULATOR_HOST"
CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS"
GOOGLE = "https://storage.googleapis.com"


def with_scheme(url: str | None) -> str | None:
    """An address as some of Google's libraries take it: a host and a port alone."""
    return f"http://{url}" if url and "://" not in url else url


def is_anonymous(environment: Mapping[str, str]) -> bool:
    """Whether requests go without credentials: to an emulator, and none were given."""
    return bool(environment.get(EMULATOR)) and not environment.get(CREDENTIALS)


def checked(url: str | None) -> str:
    """An endpoint that can be asked, without a slash at its end.

    Raises ConfigurationError if it is no URL, or carries credentials.
    """
    if not url:
        return GOOGLE
    hint = "Give one such as --endpoint-url http://127.0.0.1:4443"
    try:
        parts = urlsplit(url)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ConfigurationError("The endpoint is not a URL.", hint=hint) from None
    if "@" in parts.netloc:
        bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        raise ConfigurationError(
            f"The endpoint URL {bare} carries credentials; they would end up in logs.",
            hint=f"Name the file that holds them: export {CREDENTIALS}=key.json",
        )
    if not fine:
        raise ConfigurationError(f"{url!r} is not the URL of a store.", hint=hint)
    return url.rstrip("/")
