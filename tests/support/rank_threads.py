"""Ranks that are threads of one process: what they agree on, without torch."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from mountkit.errors import NotDurableError
from mountkit.training.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_SECONDS = 20.0


class Meeting:
    """Where the threads meet; who never comes is a failure of the test."""

    def __init__(self, world: int) -> None:
        self.world = world
        self._told = threading.Barrier(world, timeout=LIMIT_SECONDS)
        self._heard = threading.Barrier(world, timeout=LIMIT_SECONDS)
        self._values: list[Any] = [None] * world

    def exchange(self, rank: int, value: Any) -> list[Any]:
        try:
            self._values[rank] = value
            self._told.wait()
            found = list(self._values)
            self._heard.wait()
        except threading.BrokenBarrierError as error:
            raise NotDurableError("another rank is gone") from error
        return found

    def leave(self) -> None:
        """A rank is gone, as its process would be: the others hear it where they next meet."""
        self._told.abort()


class GroupOfThreads:
    """A group as ``mountkit.training.rank_group.Group`` is one."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self._meeting = meeting
        self.rank = rank
        self.world = meeting.world

    def any(self, *flags: bool) -> tuple[bool, ...]:
        return tuple(map(any, zip(*self._meeting.exchange(self.rank, flags), strict=True)))

    def gather(self, value: Any) -> list[Any]:
        return self._meeting.exchange(self.rank, value)


def on_each(world: int, work: Callable[[Ranks, int], Any]) -> list[Any]:
    """What each rank returned, or the error that it ended with."""
    meeting = Meeting(world)

    def run(rank: int) -> Any:
        try:
            return work(Ranks(GroupOfThreads(meeting, rank)), rank)
        except Exception as error:  # noqa: BLE001 - what the test looks at
            meeting.leave()
            return error

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(run, range(world)))
