"""Which account a URL and the standard variables of Azure's tools mean, and what opens it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mountkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.spec import Source

CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
ACCOUNT = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
KEY = ("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY")
SAS = "AZURE_STORAGE_SAS_TOKEN"
ENDPOINT = "AZURE_STORAGE_SERVICE_ENDPOINT"
SET = f"Set {CONNECTION}, or {ACCOUNT[0]} and {KEY[0]} or {SAS}."

# What Azure's tools mean by UseDevelopmentStorage=true: known to everybody, and no secret.
EMULATOR: Mapping[str, str] = MappingProxyType(
    {
        "AccountName": "devstoreaccount1",
        "AccountKey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/"
        "KBHBeksoGMGw==",
        "BlobEndpoint": "http://127.0.0.1:10000/devstoreaccount1",
    }
)
SUFFIX = "core.windows.net"


@dataclass(frozen=True, slots=True)
class Account:
    """A storage account: where it is, and one of a key, a signature, or nothing for a login."""

    url: str
    name: str
    key: str = ""
    sas: str = ""

    @property
    def how(self) -> str:
        """What opens it, never with what."""
        return "account key" if self.key else "shared access signature" if self.sas else "login"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be printed."""
        signature = [part[4:] for part in self.sas.split("&") if part.startswith("sig=")]
        return tuple(filter(None, (self.key, self.sas, *signature)))

    @property
    def connection_string(self) -> str:
        """All of it in one, for rclone; "" for a login."""
        if not self.key and not self.sas:
            return ""
        scheme = urlsplit(self.url).scheme
        parts = [f"DefaultEndpointsProtocol={scheme}", f"BlobEndpoint={self.url}"]
        parts += [f"AccountName={self.name}", f"AccountKey={self.key}"] if self.key else []
        parts += [] if self.key else [f"SharedAccessSignature={self.sas}"]
        return ";".join(parts)


def url_of(given: str | None, environment: Mapping[str, str]) -> str | None:
    """Where the account is, if anything says so: an option, or the variables."""
    if given:
        return given.rstrip("/")
    if environment.get(ENDPOINT):
        return environment[ENDPOINT].rstrip("/")
    parts = _parts(environment)
    if parts.get("BlobEndpoint"):
        return parts["BlobEndpoint"].rstrip("/")
    name = parts.get("AccountName") or _first(ACCOUNT, environment)
    if not name:
        return None
    scheme = parts.get("DefaultEndpointsProtocol", "https")
    return f"{scheme}://{name}.blob.{parts.get('EndpointSuffix', SUFFIX)}"


def container(source: Source) -> str:
    """The container that a URL names."""
    return source.bucket.partition("@")[0]


def find(source: Source, endpoint: str | None, environment: Mapping[str, str]) -> Account:
    """The account of a URL, and what opens it.

    Raises ConfigurationError if nothing says which account is meant, or the variables make no
    sense.
    """
    parts = _parts(environment)
    host = source.bucket.partition("@")[2]
    url = endpoint or url_of(None, environment)
    if host:
        named = host.partition(".")[0]
        if url is None or name_of(url) != named:
            url = f"https://{named}.blob.{SUFFIX}" if "." not in host else _blob(host)
    if url is None:
        raise ConfigurationError(f"Nothing says in which account {source.url} is.", hint=SET)
    # A domain of one's own does not say whose it is.
    name = name_of(url) or parts.get("AccountName") or _first(ACCOUNT, environment)
    if parts and parts.get("AccountName", name) == name:
        key, sas = parts.get("AccountKey", ""), parts.get("SharedAccessSignature", "")
    else:
        key, sas = _first(KEY, environment), environment.get(SAS, "")
    return Account(url, name, key, "" if key else sas.lstrip("?"))


def name_of(url: str) -> str:
    """The account's name: an emulator's path begins with it, or Azure's host; "" if neither."""
    split = urlsplit(url)
    path = split.path.strip("/").partition("/")[0]
    name, _, rest = (split.hostname or "").partition(".")
    return path or (name if rest.startswith("blob.") else "")


def _blob(host: str) -> str:
    """The address of a data lake's account for blobs."""
    return f"https://{host.replace('.dfs.', '.blob.', 1)}"


def _first(names: tuple[str, ...], environment: Mapping[str, str]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _parts(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The parts of the connection string, if there is one."""
    text = environment.get(CONNECTION, "").strip().strip('"')
    found = {
        name.strip(): value.strip()
        for name, separator, value in (part.partition("=") for part in text.split(";"))
        if separator
    }
    if found.get("UseDevelopmentStorage", "").lower() == "true":
        return EMULATOR
    if text and not found.keys() & {"AccountName", "BlobEndpoint"}:
        raise ConfigurationError(
            f"{CONNECTION} is no connection string: it names no account.",
            hint="Copy it anew: az storage account show-connection-string --name ACCOUNT",
        )
    return found
