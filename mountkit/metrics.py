"""Every metric in one table, and the text that a Prometheus server reads.

No label tells a path, a step or a key: their number would have no bound. The format is "Prometheus
text exposition format 0.0.4".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from mountkit._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Why a mount was lost: the causes of :class:`mountkit.events.Remounted`.
CAUSES = ("died", "hung", "unmounted")
#: How the proof of a checkpoint ends.
RESULTS = ("proven", "failed")

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is to tell at one moment.

    ``remounts`` by cause and ``verifications`` by result; a cause or result that is not in it
    counts as none. ``last_proven`` in seconds since the epoch, 0.0 before the first proof.
    ``unproven_bytes`` is None where nobody can tell.
    """

    backend: str
    up: bool
    probe_seconds: float
    remounts: Mapping[str, int] = field(default_factory=dict)
    verifications: Mapping[str, int] = field(default_factory=dict)
    last_proven: float = 0.0
    unproven_bytes: int | None = 0
    version: str = __version__


Values = dict[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: what it is called and means, and its value for each combination of labels."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    read: Callable[[Snapshot], Values]
    labels: tuple[str, ...] = ()


TABLE = (
    Metric(
        "mountkit_mount_up",
        "gauge",
        "Whether the mount is there and answers, by a probe made for this scrape.",
        lambda seen: {(): float(seen.up)},
    ),
    Metric(
        "mountkit_probe_duration_seconds",
        "gauge",
        "How long that probe took; the limit of the probe if no answer came.",
        lambda seen: {(): seen.probe_seconds},
    ),
    Metric(
        "mountkit_remounts_total",
        "counter",
        "Times the mount was lost and mounted again, by what became of it.",
        lambda seen: {(cause,): seen.remounts.get(cause, 0) for cause in CAUSES},
        ("reason",),
    ),
    Metric(
        "mountkit_checkpoint_verifications_total",
        "counter",
        "Checkpoints that the store was asked to attest, by how that ended.",
        lambda seen: {(result,): seen.verifications.get(result, 0) for result in RESULTS},
        ("result",),
    ),
    Metric(
        "mountkit_checkpoint_last_proven_timestamp_seconds",
        "gauge",
        "When a checkpoint was proven to be in the store last; 0 before the first.",
        lambda seen: {(): seen.last_proven},
    ),
    Metric(
        "mountkit_unproven_bytes",
        "gauge",
        "Bytes written through the mount that no proof covers yet; NaN if nobody can tell.",
        lambda seen: {(): math.nan if seen.unproven_bytes is None else seen.unproven_bytes},
    ),
    Metric(
        "mountkit_build_info",
        "gauge",
        "Always 1; the labels tell what runs.",
        lambda seen: {(seen.version, seen.backend): 1.0},
        ("version", "backend"),
    ),
)
METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in TABLE})


def render(snapshot: Snapshot) -> str:
    """All metrics, as a Prometheus server reads them."""
    lines = []
    for metric in METRICS.values():
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        for values, number in metric.read(snapshot).items():
            pairs = zip(metric.labels, values, strict=True)
            labels = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in pairs)
            lines.append(f"{metric.name}{f'{{{labels}}}' if labels else ''} {_number(number)}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    """Whole numbers without an exponent, however large: people read this too."""
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
