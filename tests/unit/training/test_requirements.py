"""What a run does to files, held against what a mount can do."""

from __future__ import annotations

import pytest

from mountkit.backends.mountpoint.backend import MountpointBackend
from mountkit.backends.rclone.backend import RcloneBackend
from mountkit.errors import ConfigurationError
from mountkit.training.requirements import Run, refuse

RUNS = [
    pytest.param(
        Run(tensorboard="/mnt/runs"), "TENSORBOARD_LOGGING_DIR", marks=pytest.mark.fault(30)
    ),
    pytest.param(Run(deepspeed=True), "without it", marks=pytest.mark.fault(29)),
    pytest.param(Run(pushes=True), "after the training"),
]


@pytest.mark.fault(29, 30)
@pytest.mark.parametrize(("run", "instead"), RUNS)
def test_mountpoint_refuses_it_and_says_what_to_do_instead(run, instead):
    with pytest.raises(ConfigurationError) as caught:
        refuse(run, "mountpoint", MountpointBackend.unsupported_operations)
    assert instead in caught.value.hint
    assert "--backend rclone" in caught.value.hint
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(("run", "_instead"), RUNS)
def test_rclone_takes_it(run, _instead):
    refuse(run, "rclone", RcloneBackend.unsupported_operations)


def test_a_plain_run_is_fine_on_both():
    refuse(Run(), "mountpoint", MountpointBackend.unsupported_operations)


def test_where_events_go_is_named():
    with pytest.raises(ConfigurationError, match="/mnt/runs"):
        refuse(Run(tensorboard="/mnt/runs"), "mountpoint", {"append"})
