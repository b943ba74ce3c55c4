"""Both backends on the user's own bucket: what a save costs with each, and which one to use.

Everything is done below a directory of the bucket that nobody else writes to, and taken away again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.bench.benchmark import Bench
from mountkit.bench.report import Figures, Missed, Recommendation, Report, Round
from mountkit.config.environment import search_path
from mountkit.linux import fusermount
from mountkit.store import open_store, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.config.settings import Settings

__all__ = ["Figures", "Missed", "Recommendation", "Report", "Round", "measure"]


def measure(
    settings: Settings,
    source: str,
    *,
    size: int,
    rounds: int,
    tell: Callable[[str], None] = lambda _: None,
    doing: Callable[[str], None] = lambda _: None,
    cleaning: Callable[[], None] = lambda: None,
) -> Report:
    """Measure every backend that is there, in turns.

    Parameters
    ----------
    settings:
        As for a run; its backend and target do not matter.
    source:
        The URL to save to.
    size:
        Of the weight file of one save, in bytes.
    rounds:
        How often each backend is measured; at least 1.
    tell:
        Told what comes of each round, for people, and what could not be taken away.
    doing:
        Told what is under way right now.
    cleaning:
        Called when all that remains is to take away what was mounted and written, also after an
        error or an interrupt. Whoever handles signals should let that come to its end.

    Raises MountkitError if no backend could be measured: why the first one could not.
    """
    place = parse(source)
    fusermount.fusermount(search_path())
    open_store(place, settings.store(place)).check()
    bench = Bench(place, settings, size, tell, doing)
    left: tuple[str, ...] = ()
    try:
        bench.mount()
        for number in range(1, rounds + 1):
            bench.run(number, rounds)
    finally:
        cleaning()
        left = bench.clean_up()
    return bench.report(left)
