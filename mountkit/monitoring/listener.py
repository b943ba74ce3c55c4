"""Whether anybody outside can ask how a mount does; what answers is loaded only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from mountkit.config.address import Address
    from mountkit.events import Observer
    from mountkit.monitoring.endpoint import Endpoint
    from mountkit.mounts.mount import Mount
    from mountkit.supervision.supervisor import Supervisor

    #: What answers for a mount, from before it is made until it is taken away.
    Listener: TypeAlias = "Endpoint | Nobody"


class Nobody:
    """Does not listen; with the methods of ``Endpoint``."""

    def counting(self, observer: Observer) -> Observer:
        """Count nothing."""
        return observer

    def watch(self, supervisor: Supervisor) -> None:
        """Nobody wants to know."""

    def close(self) -> None:
        """There is nothing to close."""


def begin(address: Address | None, mount: Mount, observer: Observer) -> Listener:
    """Listen at an address, if there is one.

    Raises ConfigurationError if nobody can listen there.
    """
    if address is None:
        return Nobody()
    from mountkit.monitoring.endpoint import Endpoint

    return Endpoint.open(address, mount, observer)
