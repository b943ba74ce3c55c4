"""A way to the server on which single requests go wrong, as a test tells it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER_SECONDS = 60


@dataclass(frozen=True)
class Request:
    """What is asked: ``key`` is the path, bucket and all, as it is meant; ``query`` as it came.

    ``token`` is that of temporary credentials.
    """

    method: str
    key: str
    query: str
    token: str = ""


@dataclass(frozen=True)
class Fault:
    """What happens to a request instead: an answer, a broken connection, or only a delay."""

    status: int = 0
    code: str = ""
    reset: bool = False
    delay: float = 0.0


Rule = "Callable[[Request], Fault | None]"


class Proxy:
    """Forwards to a server but for what ``rule`` says. ``asked`` has every request, in order."""

    def __init__(self, upstream: str) -> None:
        place = urlsplit(upstream)
        self.upstream = (place.hostname or "127.0.0.1", place.port or 80)
        self.rule: Callable[[Request], Fault | None] = lambda _: None
        self.asked: list[Request] = []
        self.faults = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body are two writes; the second would wait 40 ms for the first to be heard.
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            """A test looks at ``asked``."""

        def _forward(self) -> None:
            path, _, query = self.path.partition("?")
            token = self.headers.get("X-Amz-Security-Token", "")
            request = Request(self.command, unquote(path).lstrip("/"), query, token)
            proxy.asked.append(request)
            fault = proxy.rule(request)
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.send_response_only(100)
                self.end_headers()
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if fault is not None:
                proxy.faults += 1
                time.sleep(fault.delay)
            if fault is not None and fault.reset:
                # With no time to linger, closing resets the connection.
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                self.close_connection = True
                self.connection.close()
                return
            if fault is not None and fault.status:
                text = (
                    f"<Error><Code>{fault.code}</Code><Message>made up by a test</Message></Error>"
                )
                self._answer(fault.status, [("Content-Type", "application/xml")], text.encode())
                return
            self._pass_on(body)

        def _pass_on(self, body: bytes) -> None:
            upstream = http.client.HTTPConnection(*proxy.upstream, timeout=ANSWER_SECONDS)
            try:
                upstream.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    if name.lower() not in {"connection", "expect"}:
                        upstream.putheader(name, value)
                upstream.endheaders(body)
                answer = upstream.getresponse()
                content = answer.read()
                length = answer.getheader("Content-Length")
                headers = [
                    (name, value)
                    for name, value in answer.getheaders()
                    if name.lower()
                    not in {"connection", "content-length", "transfer-encoding", "keep-alive"}
                ]
                self._answer(answer.status, headers, content, length)
            except OSError:
                self._answer(502, [], b"")
            finally:
                upstream.close()

        def _answer(
            self,
            status: int,
            headers: list[tuple[str, str]],
            content: bytes,
            length: str | None = None,
        ) -> None:
            with contextlib.suppress(OSError):
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                # The answer to HEAD tells the length of what it does not bring.
                told = length if self.command == "HEAD" and length else str(len(content))
                self.send_header("Content-Length", told)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815

    return Handler
