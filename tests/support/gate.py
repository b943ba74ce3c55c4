"""A way to a store that can be shut, can swallow everything, and can be opened again."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from urllib.parse import urlsplit

CHUNK = 1 << 16


class Gate:
    """Forwards a port of 127.0.0.1 to a server, until it is told not to.

    ``open`` forwards; ``shut`` refuses connections, as if the server had gone; ``swallow`` accepts
    them and never answers. Connections that exist are cut by ``shut`` and ``swallow``.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._swallowing = False
        self._listener: socket.socket | None = None
        self._listener = self._bind(0)
        self._port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._listen()

    def open(self) -> None:
        self._swallowing = False
        self._listen()

    def shut(self) -> None:
        # Bound but not listening: connections are refused, and nobody else gets the port.
        self._replace_listener()
        self._cut()

    def swallow(self) -> None:
        self._swallowing = True
        self._cut()

    def close(self) -> None:
        if self._listener is not None:
            self._silence(self._listener)
            self._listener = None
        self._cut()

    def _bind(self, port: int) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        return listener

    def _replace_listener(self) -> None:
        if self._listener is not None:
            self._silence(self._listener)
        self._listener = self._bind(self._port)

    def _listen(self) -> None:
        listener = self._listener
        assert listener is not None
        listener.listen(64)
        threading.Thread(target=self._accept, args=[listener], daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.add(client)
            if not self._swallowing:
                threading.Thread(target=self._forward, args=[client], daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(client):
            server = socket.create_connection(self._upstream, timeout=10)
            with self._lock:
                self._connections.add(server)
            with contextlib.closing(server), selectors.DefaultSelector() as selector:
                selector.register(client, selectors.EVENT_READ, server)
                selector.register(server, selectors.EVENT_READ, client)
                while True:
                    for key, _ in selector.select():
                        data = key.fileobj.recv(CHUNK)
                        if not data:
                            return
                        key.data.sendall(data)

    def _cut(self) -> None:
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            self._silence(connection)

    @staticmethod
    def _silence(connection: socket.socket) -> None:
        # close() alone does not wake a thread that waits on the socket.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
