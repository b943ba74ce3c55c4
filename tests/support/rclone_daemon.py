"""A server that speaks rclone's remote control."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from mountkit.backends.rclone.cache import RcloneCache
from mountkit.backends.rclone.control import RcloneControl

if TYPE_CHECKING:
    from collections.abc import Callable


class Daemon(socketserver.ThreadingUnixStreamServer):
    """Answers remote-control calls from a table, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Callable[[dict[str, Any]], tuple[int, Any]]] = {}
        super().__init__(path, _Handler)

    def reply(self, method: str, body: Any, status: int = 200) -> None:
        self.answers[method] = lambda _: (status, body)

    def queue(self, *items: dict[str, Any]) -> None:
        self.reply("vfs/queue", {"queue": list(items)})

    def calls(self, method: str) -> list[dict[str, Any]]:
        return [parameters for name, parameters in self.asked if name == method]


class _Handler(BaseHTTPRequestHandler):
    server: Daemon

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        parameters = json.loads(self.rfile.read(length))
        method = self.path.removeprefix("/")
        self.server.asked.append((method, parameters))
        unknown = (404, {"error": f"couldn't find method {method!r}"})
        answer = self.server.answers.get(method, lambda _: unknown)
        status, body = answer(parameters)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def daemon(tmp_path):
    with Daemon(str(tmp_path / "rc.sock")) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        server.reply("core/stats", {"bytes": 0})
        server.reply("core/transferred", {"transferred": []})
        server.reply("vfs/queue-set-expiry", {})
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def control(tmp_path) -> RcloneControl:
    return RcloneControl(tmp_path / "rc.sock", RcloneCache(tmp_path / "vfs", tmp_path / "vfsMeta"))
