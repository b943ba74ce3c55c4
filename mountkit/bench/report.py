"""What was measured, and which backend that speaks for. No I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from mountkit.backends.file_operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# A backend that refuses something has to be so many times as fast to be worth it.
CLEARLY = 1.5
# Times nearer to each other than this are the same: the next three rounds could turn them over.
ALIKE = 1.1


@dataclass(frozen=True, slots=True)
class Round:
    """One save through a backend, in seconds.

    ``save`` is how long it blocked; ``proven`` is from its start until its manifest was in the
    bucket; ``recovery`` from the death of the daemon until the mount served again.
    """

    save: float
    proven: float
    recovery: float


@dataclass(frozen=True, slots=True)
class Figures:
    """A backend that was measured: at least one round, and the operations that it refuses."""

    backend: str
    version: str
    unsupported_operations: frozenset[str]
    rounds: tuple[Round, ...]

    @property
    def save(self) -> float:
        """Seconds that a save blocks, the median."""
        return median(each.save for each in self.rounds)

    @property
    def proven(self) -> float:
        """Seconds from the start of a save until it is proven, the median."""
        return median(each.proven for each in self.rounds)

    @property
    def recovery(self) -> float:
        """Seconds from the death of the daemon until the mount serves again, the median."""
        return median(each.recovery for each in self.rounds)


@dataclass(frozen=True, slots=True)
class Missed:
    """A backend that could not be measured, why, and what to do about it."""

    backend: str
    problem: str
    hint: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The backend to use, and why: the end of a sentence, without its full stop."""

    backend: str
    why: str

    @property
    def flag(self) -> str:
        """What to give to ``mountkit mount`` and ``mountkit run``."""
        return f"--backend {self.backend}"


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found. At least one backend was measured.

    ``source``: The URL below which it was measured. ``size``: Of the weight file of one save, in
    bytes. ``local``: Seconds that the same save to the local disk took, round by round; empty if it
    failed there, as ``local_problem`` says. ``measured``, ``missed``: Every backend is in one of
    them. ``left``: What was written or mounted and could not be taken away again, with the reason.
    """

    source: str
    size: int
    local: tuple[float, ...]
    local_problem: str
    measured: tuple[Figures, ...]
    missed: tuple[Missed, ...]
    left: tuple[str, ...]

    @property
    def recommendation(self) -> Recommendation:
        """Which backend to use here."""
        return recommend(self.measured)

    def speed(self, seconds: float) -> float:
        """Megabytes per second of a save that took so long."""
        return self.size / 1e6 / seconds

    def against_local(self, seconds: Sequence[float]) -> float | None:
        """How many times as long as the save to the local disk, the median of the rounds."""
        return paired(seconds, self.local) if self.local else None

    def to_json(self) -> dict[str, Any]:
        """The object that ``mountkit bench --format json`` prints; see its help."""
        local = median(self.local) if self.local else None
        chosen = self.recommendation
        return {
            "source": self.source,
            "size": self.size,
            "rounds": len(self.measured[0].rounds),
            "local": {
                "save_seconds": _rounded(local),
                "megabytes_per_second": _rounded(self.speed(local) if local else None),
                "problem": self.local_problem,
            },
            "backends": [self._figures(each) for each in self.measured],
            "not_measured": [asdict(each) for each in self.missed],
            "recommendation": {**asdict(chosen), "flag": chosen.flag},
            "left": list(self.left),
        }

    def _figures(self, figures: Figures) -> dict[str, Any]:
        return {
            "backend": figures.backend,
            "version": figures.version,
            "save_seconds": _rounded(figures.save),
            "save_ratio": _rounded(self.against_local([each.save for each in figures.rounds])),
            "megabytes_per_second": _rounded(self.speed(figures.save)),
            "proven_seconds": _rounded(figures.proven),
            "proven_ratio": _rounded(self.against_local([each.proven for each in figures.rounds])),
            "recovery_seconds": _rounded(figures.recovery),
            "refuses": sorted(figures.unsupported_operations),
            "rounds": [
                {f"{name}_seconds": _rounded(value) for name, value in asdict(each).items()}
                for each in figures.rounds
            ],
        }


def paired(ones: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios of two rows of times, round by round.

    What slows the machine or the network down for a while slows both times of a round.
    """
    return median(one / other for one, other in zip(ones, others, strict=True))


def recommend(measured: Sequence[Figures]) -> Recommendation:
    """Which backend to use, of those that were measured (at least one), and why.

    One that refuses less is taken, unless another one is clearly faster: in what a save blocks, or,
    where that is alike, in what it takes until the save is proven.
    """
    best = min(measured, key=lambda each: len(each.unsupported_operations))
    for other in measured:
        if _worth_it(other, best):
            best = other
    rest = [each for each in measured if each is not best]
    if not rest:
        return Recommendation(best.backend, "it is the only backend that could be measured")
    other = min(rest, key=lambda each: each.save)
    return Recommendation(best.backend, _why(best, other))


def _worth_it(other: Figures, best: Figures) -> bool:
    blocks, takes = _compared(other, best)
    if len(other.unsupported_operations) > len(best.unsupported_operations):
        return blocks < 1 / CLEARLY or (blocks < ALIKE and takes < 1 / CLEARLY)
    return blocks < 1 / ALIKE or (blocks < ALIKE and takes < 1 / ALIKE)


def _compared(one: Figures, other: Figures) -> tuple[float, float]:
    """How many times as long the one takes as the other, to save and to prove."""

    def ratio(of: Callable[[Round], float]) -> float:
        return paired([of(each) for each in one.rounds], [of(each) for each in other.rounds])

    return ratio(lambda each: each.save), ratio(lambda each: each.proven)


def _why(best: Figures, other: Figures) -> str:
    blocks, takes = _compared(best, other)
    name = other.backend
    if blocks < 1 / ALIKE:
        faster = f"a save blocks {seconds(best.save)} with it, {seconds(other.save)} with {name}"
        if takes > CLEARLY:
            faster += " (where it is proven sooner)"
    elif blocks < ALIKE and takes < 1 / ALIKE:
        faster = (
            f"a save is proven after {seconds(best.proven)} with it, "
            f"{seconds(other.proven)} with {name}"
        )
    else:
        faster = ""
    more, less = (
        best.unsupported_operations - other.unsupported_operations,
        other.unsupported_operations - best.unsupported_operations,
    )
    if faster and more:
        return f"{faster}; but it cannot {listed(more)}"
    if faster and less:
        return f"{faster}, and {name} cannot {listed(less)}"
    if less:
        return f"{name} is not clearly faster here, and cannot {listed(less)}"
    return faster or f"{name} is not faster here"


def listed(operations: frozenset[str]) -> str:
    """``rename, chmod or append``, in the order in which they are always shown."""
    known = [operation.name for operation in OPERATIONS if operation.name in operations]
    *most, last = known
    return f"{', '.join(most)} or {last}" if most else last


def seconds(value: float) -> str:
    """A time as people read it: ``0.043 s``, ``0.31 s``, ``12.4 s``, ``136 s``."""
    digits = 3 if value < 0.1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f} s"


def times(ratio: float) -> str:
    """A ratio as people read it: ``1.3x``, ``27x``."""
    return f"{ratio:,.{1 if ratio < 10 else 0}f}x"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
