"""Where to listen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 is any that is free."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``[HOST:]PORT``; without a host only this machine can connect.

        Raises ValueError if it is something else.
        """
        host, colon, port = text.rpartition(":")
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise ValueError("it is not [HOST:]PORT, with a port below 65536")
        if colon and not host:
            raise ValueError(f"name a host: 0.0.0.0:{port} for every address of this machine")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"an IPv6 address goes into brackets: [{host}]:{port}")
        return cls(host or "127.0.0.1", int(port))

    @property
    def url(self) -> str:
        """What a client asks."""
        return f"http://{self}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
