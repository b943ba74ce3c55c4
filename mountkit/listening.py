"""Whether anybody outside can ask how a mount does; what answers is loaded only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading

    from mountkit.events import Observer
    from mountkit.handle import Mount
    from mountkit.spec import Address


class Listener(Protocol):
    """What answers for a mount, from before it is made until it is taken away."""

    def counting(self, observer: Observer) -> Observer:
        """The same observer, while what it hears is counted."""

    def watch(self, ended: threading.Event) -> None:
        """The mount is made; ``ended`` says once nobody looks after it any more."""

    def close(self) -> None:
        """Stop to listen. Answers under way are not waited for."""


class Nobody:
    """Does not listen."""

    def counting(self, observer: Observer) -> Observer:
        """The observer itself."""
        return observer

    def watch(self, ended: threading.Event) -> None:
        """Nobody wants to know."""

    def close(self) -> None:
        """There is nothing to close."""


def begin(address: Address | None, mount: Mount, observer: Observer) -> Listener:
    """Listen at an address, if there is one.

    Raises
    ------
    ConfigurationError
        If nobody can listen there.
    """
    if address is None:
        return Nobody()
    from mountkit.endpoint import Endpoint

    return Endpoint.open(address, mount, observer)
