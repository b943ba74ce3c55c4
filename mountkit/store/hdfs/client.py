"""WebHDFS: its requests, their time limits, and where its errors become ours."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from mountkit.errors import ConfigurationError, MountUnavailableError
from mountkit.store.hdfs import addresses, errors
from mountkit.store.hdfs.errors import HdfsError
from mountkit.store.place import ATTEMPTS, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from mountkit.errors import MountkitError

CONNECT_SECONDS = 5.0
REDIRECTS = 3
# As rclone's backend for HDFS encodes it.
COLON, STORED_COLON = ":", "\uff1a"
REDIRECTED = frozenset({301, 302, 303, 307, 308})
# More than a chunk; a listing of a directory of 100,000 files has 30 MB.
LONGEST_ANSWER = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the bytes, and when that was by the server's own clock."""

    body: bytes
    date: datetime | None

    def json(self) -> Any:
        """What it says."""
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise HdfsError(200, "", "it does not answer in JSON") from error


class Connection(Place):
    """One source. A connection lasts for one request."""

    @property
    def user(self) -> str:
        """Who asks."""
        return addresses.user(os.environ)

    @property
    def endpoint(self) -> str:
        """Where WebHDFS is."""
        return addresses.webhdfs(self.source.bucket, self.options.endpoint_url)

    def credentials(self) -> str:
        """Who asks: HDFS without Kerberos believes it."""
        return f"user {self.user}"

    def no_credentials(self) -> MountkitError:
        """There is nothing to look for."""
        return ConfigurationError("There are no credentials.", hint="Log in, then try again.")

    def place(self, path: str) -> str:
        """Where a path below the source is in HDFS, which takes no colon: rclone writes another."""
        return "/" + self.source.key(path).replace(COLON, STORED_COLON)

    def ask(
        self, method: str, path: str, op: str, body: bytes | None = None, **words: str | int
    ) -> Answer:
        """One operation on a path below the source, on whichever node the name node names for it.

        Raises HdfsError for an answer that is no success; OSError or HTTPException without one.
        """
        self.deadline.check()
        place = self.place(path)
        query = urlencode({"op": op, "user.name": self.user, **words})
        url = f"{self.endpoint}/webhdfs/v1{quote(place, safe='/')}?{query}"
        for _ in range(REDIRECTS):
            with closing(self._open(url)) as connection:
                # What is to be written goes to a data node only.
                connection.request(method, _target(url))
                answer = connection.getresponse()
                where = answer.getheader("Location", "")
                if answer.status not in REDIRECTED or not where:
                    return _checked(answer)
            url = where
            if body is not None:
                with closing(self._open(url)) as connection:
                    headers = {"Content-Type": "application/octet-stream"}
                    connection.request(method, _target(url), body, headers)
                    return _checked(connection.getresponse())
        raise HdfsError(0, "", "it sends one from here to there")

    def _open(self, url: str) -> http.client.HTTPConnection:
        parts = urlsplit(url)
        seconds = max(1.0, self.deadline.cut(self.patience) / ATTEMPTS)
        host, port = parts.hostname or "", parts.port
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                host, port, timeout=min(seconds, CONNECT_SECONDS)
            )
        else:
            connection = http.client.HTTPConnection(
                host, port, timeout=min(seconds, CONNECT_SECONDS)
            )
        connection.connect()
        connection.sock.settimeout(seconds)
        return connection

    def stream(self, path: str, op: str, **words: str | int) -> Answer:
        """The same for reading, made again where it broke off."""
        attempt = 1
        while True:
            try:
                return self.ask("GET", path, op, None, **words)
            except (OSError, http.client.HTTPException):
                if attempt == ATTEMPTS:
                    raise
                attempt += 1

    @contextmanager
    def translated(self, doing: str, path: str = "") -> Iterator[None]:
        """Turn what goes wrong inside into errors of ours that name the file."""
        look = f"Then: mountkit doctor {self.source.url}"
        try:
            yield
        except HdfsError as error:
            raise errors.translate(
                error,
                doing=doing,
                where=self.url(path),
                source=self.source.url,
                endpoint=self.endpoint,
            ) from error
        except socket.gaierror as error:
            raise ConfigurationError(
                f"There is no host to {doing} {self.url(path)} at: {error.strerror or error} "
                f"({self.endpoint}).",
                hint=f"Correct its name, or the /etc/hosts of this machine. {look}",
            ) from error
        except ssl.SSLError as error:
            raise MountUnavailableError(
                f"The certificate of {self.endpoint} was not accepted when asked to {doing} "
                f"{self.url(path)}.",
                hint=f"Name the file with its authority: export SSL_CERT_FILE=ca.pem. {look}",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise MountUnavailableError(
                f"WebHDFS at {self.endpoint} could not be reached to {doing} {self.url(path)} "
                f"({type(error).__name__}).",
                hint=f"Check the network, and --endpoint-url: it is the name node's HTTP port. "
                f"{look}",
            ) from error

    def await_name_node(self) -> None:
        """See that the port is open that rclone speaks to, which is another one than WebHDFS's.

        Raises MountUnavailableError if it is not, ConfigurationError if there is no such host.
        """
        host, _, port = self.source.bucket.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), min(CONNECT_SECONDS, self.patience)):
                return
        except socket.gaierror as error:
            raise ConfigurationError(
                f"There is no host {host!r} for {self.source.url} ({error.strerror}).",
                hint="Correct the name in the URL: hdfs://namenode:8020/path",
            ) from error
        except OSError as error:
            raise MountUnavailableError(
                f"The name node could not be reached at {self.source.bucket} "
                f"({error.strerror or type(error).__name__}), though WebHDFS at {self.endpoint} "
                "answers.",
                hint="Give its port in the URL, as `hdfs getconf -confKey fs.defaultFS` tells it.",
            ) from error


def _target(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _checked(answer: http.client.HTTPResponse) -> Answer:
    """Raises HdfsError if the answer is no success."""
    body = answer.read(LONGEST_ANSWER)
    try:
        # It is told twice, which makes one header of two.
        date = parsedate_to_datetime(answer.headers.get_all("Date", [""])[0])
    except (TypeError, ValueError):
        date = None
    if 200 <= answer.status < 300:
        return Answer(body, date)
    try:
        told: Mapping[str, Any] = json.loads(body)["RemoteException"]
        name, message = str(told["exception"]), str(told.get("message", ""))
    except (ValueError, LookupError, TypeError):
        # Not the name node's own words: a proxy's, perhaps.
        name, message = "", answer.reason
    raise HdfsError(answer.status, name, message, date)
