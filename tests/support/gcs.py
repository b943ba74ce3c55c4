"""Google Cloud Storage on loopback: fake-gcs-server behind a door that asks for a token.

The door is what Google's own is: it hands out a token for what a service account has signed,
refuses requests without one, and notes every request. The server itself lets everybody in.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANSWER_SECONDS = 60
START_SECONDS = 20
ACCOUNT = "training@mountkit.iam.gserviceaccount.com"
# What is of one connection only, and what is told anew.
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}


@dataclass(frozen=True)
class Asked:
    """A request; ``path`` as it is meant, ``sent`` and ``received`` the bytes of the bodies."""

    method: str
    path: str
    query: str
    status: int
    sent: int
    received: int

    @property
    def media(self) -> bool:
        """Whether the bytes of an object were read, also by the paths of the XML interface."""
        downloads = "alt=media" in self.query or self.path.startswith("/download/")
        api = self.path.startswith(("/storage/v1/", "/upload/", "/batch/", "/token"))
        return self.method == "GET" and (downloads or not api)


class Key:
    """A service account's key, as Google hands one out."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.private = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        self.public = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def write(self, path: Path, token_uri: str) -> Path:
        path.write_text(
            json.dumps(
                {
                    "type": "service_account",
                    "project_id": "mountkit",
                    "private_key_id": "1",
                    "private_key": self.private,
                    "client_email": ACCOUNT,
                    "client_id": "1",
                    "token_uri": token_uri,
                }
            )
        )
        path.chmod(0o600)
        return path


class Google:
    """The server and its door. ``refuse`` says which requests get a status instead of an answer."""

    def __init__(self, folder: Path, binary: str) -> None:
        self._folder = folder
        self._binary = binary
        self.key = Key()
        self.asked: list[Asked] = []
        self.refuse: Callable[[str, str], int] = lambda _method, _path: 0
        self.tokens: set[str] = set()
        #: No request gets an answer.
        self.away = False
        self.upstream = ("127.0.0.1", _free_port())

    def __enter__(self) -> Self:
        self._door = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._door.daemon_threads = True
        threading.Thread(target=self._door.serve_forever, daemon=True).start()
        host, port = self.upstream
        self._log = (self._folder / "server.log").open("wb")
        argv = [self._binary, "-scheme", "http", "-host", host, "-port", str(port)]
        argv += ["-backend", "memory", "-external-url", self.url]
        argv += ["-public-host", f"{host}:{port}", "-log-level", "error"]
        self._server = subprocess.Popen(argv, stdout=self._log, stderr=self._log)
        try:
            self._await()
            self.key_file = self.key.write(self._folder / "key.json", f"{self.url}/token")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.wait()
        self._log.close()
        self._door.shutdown()
        self._door.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._door.server_address[1]}"

    def _await(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(self.upstream, 1):
                return
            assert self._server.poll() is None, "fake-gcs-server ended"
            assert time.monotonic() < deadline, "fake-gcs-server does not listen"
            time.sleep(0.05)

    def client(self) -> Any:
        """Google's own client, past the door."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        host, port = self.upstream
        where = {"api_endpoint": f"http://{host}:{port}"}
        return Client(project="p", credentials=AnonymousCredentials(), client_options=where)

    def media(self) -> list[Asked]:
        """What was read of objects."""
        return [asked for asked in self.asked if asked.media]

    # What the door does

    def token(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """A token for who has signed for one with the account's key."""
        from google.auth import exceptions, jwt

        (signed,) = parse_qs(body.decode()).get("assertion", [""])
        try:
            # Python's library addresses Google whatever the key says; Go's the server it asks.
            audience = [f"{self.url}/token", "https://oauth2.googleapis.com/token"]
            claims = jwt.decode(signed, certs=self.key.public, audience=audience)
        except (ValueError, exceptions.GoogleAuthError):
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        assert claims["iss"] == ACCOUNT
        assert "devstorage" in claims["scope"]
        token = f"ya29.{secrets.token_hex(16)}"
        self.tokens.add(token)
        return 200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}

    def revoke(self) -> None:
        """No token that was handed out is good any more."""
        self.tokens.clear()

    def refusal(self, method: str, path: str, authorization: str) -> int:
        """The status that a request gets instead of an answer; 0 for none."""
        if authorization.removeprefix("Bearer ") not in self.tokens:
            return 401
        return self.refuse(method, path)


WORDS = {
    401: ("authError", "Invalid Credentials"),
    403: ("forbidden", f"{ACCOUNT} does not have that access to the Google Cloud Storage object."),
    429: ("rateLimitExceeded", "The object exceeded the rate limit."),
    503: ("backendError", "Backend Error"),
}


def _handler(google: Google) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            """A test looks at ``asked``."""

        def _forward(self) -> None:
            body = self._body()
            path = self.path.partition("?")[0]
            if google.away:
                self.close_connection = True
                return
            if path == "/token":
                status, told = google.token(body)
                self._say(status, told, len(body))
                return
            status = google.refusal(
                self.command, unquote(path), self.headers.get("Authorization", "")
            )
            if status:
                reason, message = WORDS[status]
                errors = [{"domain": "global", "reason": reason, "message": message}]
                told = {"error": {"code": status, "message": message, "errors": errors}}
                self._say(status, told, len(body))
                return
            upstream = http.client.HTTPConnection(*google.upstream, timeout=ANSWER_SECONDS)
            try:
                headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
                upstream.request(self.command, self.path, body, headers)
                answer = upstream.getresponse()
                content = answer.read()
                kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in HOP]
                self._answer(answer.status, kept, content, len(body))
            except OSError:
                self._answer(502, [], b"", len(body))
            finally:
                upstream.close()

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def _say(self, status: int, told: dict[str, Any], sent: int) -> None:
            content = json.dumps(told).encode()
            self._answer(status, [("Content-Type", "application/json")], content, sent)

        def _answer(
            self, status: int, headers: list[tuple[str, str]], content: bytes, sent: int
        ) -> None:
            path, _, query = self.path.partition("?")
            google.asked.append(
                Asked(self.command, unquote(path), query, status, sent, len(content))
            )
            with contextlib.suppress(OSError):
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = _forward  # noqa: N815

    return Handler


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def find_server() -> str | None:
    """The server's program, if it is there."""
    return shutil.which("fake-gcs-server")
