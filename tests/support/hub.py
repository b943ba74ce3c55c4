"""A stand-in for the Hugging Face Hub, as far as pushing to it goes (``huggingface_hub``, 1.x)."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Hub(ThreadingHTTPServer):
    """What was committed to it, by its path; every file comes in the commit itself."""

    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.commits = 0
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, body: bytes) -> None:
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                value = entry["value"]
                self.files[value["path"]] = base64.b64decode(value["content"])
        self.commits += 1


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def _answer(self, content: Any, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.asked.append(f"POST {self.path}")
        if "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            files = [
                {"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            self.server.commit(body)
            url = f"{self.server.url}/me/model/commit/{self.server.commits:040}"
            self._answer(
                {"commitUrl": url, "commitOid": f"{self.server.commits:040}", "success": True}
            )
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            self._answer({"url": f"{self.server.url}/me/model", "name": "me/model", "id": "1"})
        else:
            self._answer({"error": "unknown"}, 404)

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path}")
        if self.path.startswith("/api/whoami"):
            self._answer({"name": "me", "type": "user", "orgs": [], "auth": {}})
        elif self.path.startswith("/api/models/me/model"):
            self._answer({"id": "me/model", "sha": "0" * 40, "siblings": [], "tags": []})
        else:
            self._answer({"error": "unknown"}, 404)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
