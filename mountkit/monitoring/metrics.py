"""Every metric in one table, and the text that a Prometheus server reads.

No label tells a path, a step or a key: their number would have no bound. Loaded only where somebody
listens: nobody else needs the client library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from mountkit._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Family = CounterMetricFamily | GaugeMetricFamily

# The format that every server reads, whatever it asks for.
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

#: Why a mount was lost: the causes of :class:`mountkit.events.Remounted`.
CAUSES = ("died", "hung", "unmounted")
#: How the proof of a checkpoint ends.
RESULTS = ("proven", "failed")


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
    given_up: bool = False
    version: str = __version__


Values = dict[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: what it is called and means, and its value for each combination of labels."""

    name: str
    kind: type[Family]
    help: str
    read: Callable[[Snapshot], Values]
    labels: tuple[str, ...] = ()


TABLE = (
    Metric(
        "mountkit_mount_up",
        GaugeMetricFamily,
        "Whether the mount is there and has answered lately, as its supervisor knows it.",
        lambda seen: {(): float(seen.up)},
    ),
    Metric(
        "mountkit_mount_given_up",
        GaugeMetricFamily,
        "Whether the supervisor gave the mount up: it makes it anew no more.",
        lambda seen: {(): float(seen.given_up)},
    ),
    Metric(
        "mountkit_probe_duration_seconds",
        GaugeMetricFamily,
        "How long the mount took to answer last; while it is not up, how long ago that was.",
        lambda seen: {(): seen.probe_seconds},
    ),
    Metric(
        "mountkit_remounts_total",
        CounterMetricFamily,
        "Times the mount was lost and mounted again, by why it was lost.",
        lambda seen: {(cause,): seen.remounts.get(cause, 0) for cause in CAUSES},
        ("reason",),
    ),
    Metric(
        "mountkit_checkpoint_verifications_total",
        CounterMetricFamily,
        "Checkpoints that the store was asked to attest, by how that ended.",
        lambda seen: {(result,): seen.verifications.get(result, 0) for result in RESULTS},
        ("result",),
    ),
    Metric(
        "mountkit_checkpoint_last_proven_timestamp_seconds",
        GaugeMetricFamily,
        "When a checkpoint was proven to be in the store last; 0 before the first.",
        lambda seen: {(): seen.last_proven},
    ),
    Metric(
        "mountkit_unproven_bytes",
        GaugeMetricFamily,
        "Bytes written through the mount that no proof covers yet; NaN if nobody can tell.",
        lambda seen: {(): math.nan if seen.unproven_bytes is None else seen.unproven_bytes},
    ),
    Metric(
        "mountkit_build_info",
        GaugeMetricFamily,
        "Always 1; the labels tell what runs.",
        lambda seen: {(seen.version, seen.backend): 1.0},
        ("version", "backend"),
    ),
)
METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in TABLE})


class _Collector:
    """What a registry collects: the whole table, at one moment."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        for metric in METRICS.values():
            family = metric.kind(metric.name, metric.help, labels=metric.labels)
            for values, number in metric.read(self._snapshot).items():
                family.add_metric(values, number)
            yield family


def render(snapshot: Snapshot) -> str:
    """All metrics, as a Prometheus server reads them."""
    # One of our own: the library's tells of the process and of its garbage collector as well.
    registry = CollectorRegistry()
    registry.register(_Collector(snapshot))
    return generate_latest(registry).decode()
