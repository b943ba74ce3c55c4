"""Whether anybody outside can ask how a mount does; what answers is loaded only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mountkit.config.address import Address
    from mountkit.events import Observer
    from mountkit.mounts.mount import Mount
    from mountkit.supervision.supervisor import Supervisor


class Listener(Protocol):
    """What answers for a mount, from before it is made until it is taken away."""

    def counting(self, observer: Observer) -> Observer:
        """The same observer, while what it hears is counted."""

    def watch(self, supervisor: Supervisor) -> None:
        """The mount is made, and this is who looks after it."""

    def close(self) -> None:
        """Stop to listen. Answers under way are not waited for."""


class Nobody:
    """Does not listen."""

    def counting(self, observer: Observer) -> Observer:
        """The observer itself."""
        return observer

    def watch(self, supervisor: Supervisor) -> None:
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
    from mountkit.monitoring.endpoint import Endpoint

    return Endpoint.open(address, mount, observer)
