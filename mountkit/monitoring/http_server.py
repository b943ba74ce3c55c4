"""A small HTTP server that only answers questions, a thread for each, with limits to all of it."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from mountkit._version import __version__
from mountkit.errors import ConfigurationError, MountkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mountkit.config.address import Address

logger = logging.getLogger("mountkit")

CLIENT_SECONDS = 5.0
MOST_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets."""

    status: HTTPStatus
    text: str
    kind: str = "text/plain; charset=utf-8"


class Server(ThreadingHTTPServer):
    """A thread for each request, and a limit to their number."""

    daemon_threads = True
    # A scraper and a few probes come at the same moment.
    request_queue_size = MOST_AT_ONCE * 2

    def __init__(
        self, family: int, place: tuple[Any, ...], answers: Mapping[str, Callable[[], Answer]]
    ) -> None:
        self.address_family = family
        self.answers = answers
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__(place, _Handler)

    def server_bind(self) -> None:
        """As the base class, but without its question to the name server, which may hang."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Whether there is a place for one more; otherwise the connection is closed."""
        return self._places.acquire(blocking=False)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own."""
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """What that thread does."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that went away, or was too slow, is nobody's concern; the rest is a bug."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            logger.error("mountkit: a request could not be answered", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    """One request. HTTP/1.0, so that no connection stays."""

    timeout = CLIENT_SECONDS
    server: Server

    def version_string(self) -> str:
        return f"mountkit/{__version__}"

    def log_message(self, *_: object) -> None:
        """Nobody wants a line for each probe."""

    def do_GET(self) -> None:
        self._send(self._answer(), body=True)

    def do_HEAD(self) -> None:
        self._send(self._answer(), body=False)

    def _refuse(self) -> None:
        self._send(Answer(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD\n"), body=True)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815 - http.server's

    def _answer(self) -> Answer:
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            known = ", ".join(self.server.answers)
            return Answer(HTTPStatus.NOT_FOUND, f"there are {known}\n")
        try:
            return answer()
        except (MountkitError, OSError) as error:
            text = error.message if isinstance(error, MountkitError) else str(error)
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{text}\n")
        except Exception as error:
            # A bug of ours: whoever asks must not wait for its time limit to learn of it.
            logger.exception("mountkit: a request could not be answered")
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}\n")

    def _send(self, answer: Answer, *, body: bool) -> None:
        data = answer.text.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if body:
            self.wfile.write(data)


def bind(address: Address, answers: Mapping[str, Callable[[], Answer]]) -> Server:
    """A server that listens at ``address``; each path has a function that answers it.

    Raises ConfigurationError if nobody can listen there.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )[0]
        return Server(family, place, answers)
    except OSError as error:
        raise ConfigurationError(
            f"Nothing can listen on {address}: {error.strerror or error}.",
            hint=f"See who does: ss -ltnp 'sport = :{address.port}'. "
            "Or give another with --listen or MOUNTKIT_LISTEN.",
        ) from error
