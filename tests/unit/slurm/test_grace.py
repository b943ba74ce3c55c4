"""How long a job has between SIGTERM and SIGKILL, from what scontrol prints."""

from __future__ import annotations

import pytest

from mountkit.errors import ConfigurationError, UsageError
from mountkit.slurm.grace import Grace, decide, of_cluster

CONFIG = """\
Configuration data as of 2026-11-27T14:42:28
KillOnBadExit           = 0
KillWait                = 45 sec
MailDomain              = (null)
"""
PARTITIONS = """\
PartitionName=low AllowGroups=ALL Default=YES QoS=N/A GraceTime=300 Hidden=NO MaxTime=01:00:00
PartitionName=high AllowGroups=ALL Default=NO QoS=N/A GraceTime=0 Hidden=NO MaxTime=UNLIMITED
PartitionName=short AllowGroups=ALL Default=NO GraceTime=20 Hidden=NO
"""


@pytest.mark.parametrize(
    ("partition", "seconds", "why"),
    [
        (None, 300, "GraceTime of the partition low"),
        ("low", 300, "GraceTime of the partition low"),
        ("high", 45, "KillWait of this cluster, for the partition high has no GraceTime"),
        ("low,high", 45, "KillWait of this cluster, for the partition high has no GraceTime"),
        ("high,low,short", 20, "GraceTime of the partition short"),
    ],
)
def test_the_partition_decides_and_the_shortest_of_several(partition, seconds, why):
    assert decide(CONFIG, PARTITIONS, partition) == Grace(seconds, why)


@pytest.mark.parametrize("partition", ["lo", "low,", "low,other"])
def test_a_partition_that_is_not_there(partition):
    with pytest.raises(UsageError, match="no partition"):
        decide(CONFIG, PARTITIONS, partition)


@pytest.mark.parametrize("partitions", ["", PARTITIONS.replace("Default=YES", "Default=NO")])
def test_a_cluster_without_a_default_partition(partitions):
    assert decide(CONFIG, partitions, None) == Grace(45, "KillWait of this cluster")


@pytest.mark.parametrize("told", ["", "KillWait = (null)", "OverTimeKillWait = 3 sec"])
def test_a_kill_wait_that_is_not_told_is_slurms_default(told):
    assert decide(told, "PartitionName=a Default=YES", None).seconds == 30


def test_without_slurm_on_this_machine_the_default_counts():
    assert of_cluster(None, "any").seconds == 30


def program(place, text):
    path = place / "scontrol"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_what_scontrol_prints_is_read(tmp_path):
    (tmp_path / "config").write_text(CONFIG)
    (tmp_path / "partition").write_text(PARTITIONS)
    assert of_cluster(program(tmp_path, f'cat {tmp_path}/"$2"'), "high").seconds == 45


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("echo 'slurm_load_ctl_conf error: Unable to contact.' >&2; exit 1", "Unable to contact."),
        ("exit 1", "it did not say why"),
        ("kill -KILL $$", "it did not say why"),
    ],
)
def test_a_slurm_that_does_not_answer_is_told_with_what_to_do(tmp_path, text, says):
    with pytest.raises(ConfigurationError, match=says) as told:
        of_cluster(program(tmp_path, text), None)
    assert "scontrol show config" in told.value.message
    assert "--grace" in told.value.hint


def test_a_program_that_cannot_be_run(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be run"):
        of_cluster(str(tmp_path / "none"), None)
