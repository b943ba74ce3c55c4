"""The metrics: named as promised, read back by a parser, and labels have an end."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit import backends
from mountkit._version import __version__
from mountkit.monitoring.metrics import CAUSES, CONTENT_TYPE, METRICS, RESULTS, Snapshot, render
from mountkit.supervision import health
from support.scrape import Scrape

# The public contract: a dashboard depends on each of these words.
PROMISED = {
    "mountkit_mount_up": ("gauge", set()),
    "mountkit_mount_given_up": ("gauge", set()),
    "mountkit_remounts_total": ("counter", {"reason"}),
    "mountkit_probe_duration_seconds": ("gauge", set()),
    "mountkit_checkpoint_verifications_total": ("counter", {"result"}),
    "mountkit_checkpoint_last_proven_timestamp_seconds": ("gauge", set()),
    "mountkit_unproven_bytes": ("gauge", set()),
    "mountkit_build_info": ("gauge", {"version", "backend"}),
}
COUNTS = st.integers(0, 2**53)
SNAPSHOTS = st.builds(
    Snapshot,
    backend=st.sampled_from(backends.NAMES),
    up=st.booleans(),
    probe_seconds=st.floats(0, 1e6),
    remounts=st.dictionaries(st.sampled_from(CAUSES), COUNTS),
    verifications=st.dictionaries(st.sampled_from(RESULTS), COUNTS),
    last_proven=st.floats(0, 1e11),
    unproven_bytes=st.none() | COUNTS,
    given_up=st.booleans(),
)


@given(SNAPSHOTS)
def test_what_is_on_the_wire_is_what_was_promised_and_no_more(seen):
    text = render(seen)
    kinds = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    assert kinds == [(name, PROMISED[name][0]) for name in METRICS]
    assert set(METRICS) == set(PROMISED)
    series = Scrape(text).series()
    assert {name for name, _ in series} == set(PROMISED)
    for name, labels in series:
        assert set(labels) == PROMISED[name][1]


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
    found = Scrape(render(seen))
    assert found.value("mountkit_mount_up") == 1
    assert found.value("mountkit_mount_given_up") == 0
    assert found.value("mountkit_probe_duration_seconds") == 0.25
    assert found.value("mountkit_remounts_total", reason="died") == 2
    assert found.value("mountkit_remounts_total", reason="hung") == 1
    assert found.value("mountkit_remounts_total", reason="unmounted") == 0
    assert found.value("mountkit_checkpoint_verifications_total", result="proven") == 7
    assert found.value("mountkit_checkpoint_verifications_total", result="failed") == 3
    assert found.value("mountkit_checkpoint_last_proven_timestamp_seconds") == 1704067200.5
    assert found.value("mountkit_unproven_bytes") == 13e9
    assert found.value("mountkit_build_info", version=__version__, backend="rclone") == 1


def test_what_nobody_can_tell_is_no_number():
    text = render(Snapshot("rclone", up=False, probe_seconds=0.0, unproven_bytes=None))
    assert "\nmountkit_unproven_bytes NaN\n" in text
    assert math.isnan(Scrape(text).value("mountkit_unproven_bytes"))


@given(SNAPSHOTS)
def test_numbers_come_through_as_they_are(seen):
    found = Scrape(render(seen))
    assert found.value("mountkit_probe_duration_seconds") == seen.probe_seconds
    assert found.value("mountkit_checkpoint_last_proven_timestamp_seconds") == seen.last_proven
    if seen.unproven_bytes is not None:
        assert found.value("mountkit_unproven_bytes") == seen.unproven_bytes
    for cause in CAUSES:
        told = found.value("mountkit_remounts_total", reason=cause)
        assert told == seen.remounts.get(cause, 0)


@given(st.dictionaries(st.text(), COUNTS), st.dictionaries(st.text(), COUNTS))
def test_no_label_has_a_value_that_is_not_known_beforehand(remounts, verifications):
    seen = Snapshot("rclone", True, 0.0, remounts=remounts, verifications=verifications)
    series = Scrape(render(seen)).series()
    assert {labels["reason"] for _, labels in series if "reason" in labels} == set(CAUSES)
    assert {labels["result"] for _, labels in series if "result" in labels} == set(RESULTS)


def test_every_cause_of_the_supervisor_has_its_series():
    assert set(CAUSES) == {cause.value for cause in health.Cause} - {""}


def test_the_format_is_the_one_that_every_server_reads():
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_names_and_help_follow_the_conventions(metric):
    assert re.fullmatch(r"mountkit(_[a-z]+)+", metric.name)
    assert metric.help.endswith(".")
    assert "\n" not in metric.help
    assert "\\" not in metric.help
