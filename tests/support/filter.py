"""A way to a store on which some requests are answered before they get there."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    Rule = Callable[[str, str, Mapping[str, str]], str | None]

HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding", "content-length"}


def denied(code: str = "AccessDenied", extra: str = "") -> str:
    """The body of a refusal."""
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message>{extra}</Error>"


class Filter:
    """A context manager; ``rule(method, path, headers)`` gives the body of a refusal, or None.

    Requests are passed on as they are, Host and signature included.
    """

    def __init__(self, upstream: str, rule: Rule, status: int = 403) -> None:
        parts = urlsplit(upstream)
        outer = (parts.hostname or "", parts.port or 80)
        self.refused: list[str] = []
        refused = self.refused

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                refusal = rule(self.command, self.path, self.headers)
                if refusal is not None:
                    refused.append(f"{self.command} {self.path}")
                    # A body of unknown length may still be on its way.
                    self.close_connection = True
                    self.reply(status, {"Content-Type": "application/xml"}, refusal.encode())
                    return
                store = http.client.HTTPConnection(*outer, timeout=30)
                store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in HOP_BY_HOP:
                        store.putheader(name, value)
                if body or self.command in {"PUT", "POST"}:
                    store.putheader("Content-Length", str(len(body)))
                store.endheaders(body or None)
                response = store.getresponse()
                data = response.read()
                headers = {
                    name: value
                    for name, value in response.getheaders()
                    if name.lower() not in {*HOP_BY_HOP, "date", "server"}
                }
                length = response.getheader("Content-Length") if self.command == "HEAD" else None
                self.reply(response.status, headers, data, length)
                store.close()

            def reply(
                self, code: int, headers: Mapping[str, str], data: bytes, length: str | None = None
            ) -> None:
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", length or str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
