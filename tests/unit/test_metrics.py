"""The metrics: a strict parser reads them, they are named as promised, and labels have an end."""

from __future__ import annotations

import math
import re

import pytest
from exposition import parse
from hypothesis import given
from hypothesis import strategies as st

from mountkit import health
from mountkit._version import __version__
from mountkit.metrics import CAUSES, METRICS, RESULTS, Snapshot, render

# The public contract: a dashboard depends on each of these words.
PROMISED = {
    "mountkit_mount_up": ("gauge", ()),
    "mountkit_remounts_total": ("counter", ("reason",)),
    "mountkit_probe_duration_seconds": ("gauge", ()),
    "mountkit_checkpoint_verifications_total": ("counter", ("result",)),
    "mountkit_checkpoint_last_proven_timestamp_seconds": ("gauge", ()),
    "mountkit_unproven_bytes": ("gauge", ()),
    "mountkit_build_info": ("gauge", ("version", "backend")),
}
COUNTS = st.integers(0, 2**53)
SNAPSHOTS = st.builds(
    Snapshot,
    backend=st.text(),
    up=st.booleans(),
    probe_seconds=st.floats(0, 1e6),
    remounts=st.dictionaries(st.sampled_from(CAUSES), COUNTS),
    verifications=st.dictionaries(st.sampled_from(RESULTS), COUNTS),
    last_proven=st.floats(0, 1e11),
    unproven_bytes=st.none() | COUNTS,
    version=st.text(),
)


def test_the_table_is_what_was_promised():
    assert {name: (metric.kind, metric.labels) for name, metric in METRICS.items()} == PROMISED


def test_a_whole_scrape():
    seen = Snapshot(
        backend="rclone",
        up=True,
        probe_seconds=0.25,
        remounts={"died": 2, "hung": 1},
        verifications={"proven": 7, "failed": 3},
        last_proven=1704067200.5,
        unproven_bytes=13_000_000_000,
    )
    found = parse(render(seen))
    assert set(found) == set(PROMISED)
    assert found["mountkit_mount_up"].value() == 1
    assert found["mountkit_probe_duration_seconds"].value() == 0.25
    assert found["mountkit_remounts_total"].value(reason="died") == 2
    assert found["mountkit_remounts_total"].value(reason="hung") == 1
    assert found["mountkit_remounts_total"].value(reason="unmounted") == 0
    assert found["mountkit_checkpoint_verifications_total"].value(result="proven") == 7
    assert found["mountkit_checkpoint_verifications_total"].value(result="failed") == 3
    assert found["mountkit_checkpoint_last_proven_timestamp_seconds"].value() == 1704067200.5
    assert found["mountkit_unproven_bytes"].value() == 13e9
    assert found["mountkit_build_info"].value(version=__version__, backend="rclone") == 1


def test_large_numbers_are_written_out():
    text = render(Snapshot("rclone", up=False, probe_seconds=5.0, unproven_bytes=13_000_000_000))
    assert "\nmountkit_unproven_bytes 13000000000\n" in text
    assert "\nmountkit_mount_up 0\n" in text


def test_before_anything_happened_every_series_is_there():
    found = parse(render(Snapshot("rclone", up=False, probe_seconds=0.0)))
    assert all(family.samples for family in found.values())
    assert found["mountkit_checkpoint_last_proven_timestamp_seconds"].value() == 0


def test_what_nobody_can_tell_is_no_number():
    seen = Snapshot("rclone", up=False, probe_seconds=0.0, unproven_bytes=None)
    assert math.isnan(parse(render(seen))["mountkit_unproven_bytes"].value())


@given(SNAPSHOTS)
def test_whatever_is_seen_can_be_read_back(seen):
    found = parse(render(seen))
    for name, (kind, labels) in PROMISED.items():
        assert found[name].kind == kind
        assert {tuple(label for label, _ in sample) for sample in found[name].samples} == {labels}
    assert found["mountkit_build_info"].samples == {
        (("version", seen.version), ("backend", seen.backend)): 1.0
    }
    assert found["mountkit_probe_duration_seconds"].value() == seen.probe_seconds
    assert found["mountkit_checkpoint_last_proven_timestamp_seconds"].value() == seen.last_proven


@given(st.dictionaries(st.text(), COUNTS), st.dictionaries(st.text(), COUNTS))
def test_no_label_has_a_value_that_is_not_known_beforehand(remounts, verifications):
    seen = Snapshot("rclone", True, 0.0, remounts=remounts, verifications=verifications)
    found = parse(render(seen))
    values = [
        {value for sample in found[name].samples for _, value in sample}
        for name in ("mountkit_remounts_total", "mountkit_checkpoint_verifications_total")
    ]
    assert values == [set(CAUSES), set(RESULTS)]


def test_every_cause_of_the_supervisor_has_its_series():
    assert set(CAUSES) == {cause.value for cause in health.Cause} - {""}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_names_and_help_follow_the_conventions(metric):
    assert re.fullmatch(r"mountkit(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help.endswith(".")
    assert "\n" not in metric.help
    assert "\\" not in metric.help
