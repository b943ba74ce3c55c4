"""How long to wait for what."""

from __future__ import annotations

import pytest

from mountkit.config import settings as settings_module
from mountkit.config import timeouts


def test_limits_are_those_of_the_settings():
    settings = settings_module.load(stall_timeout=1, drain_timeout=2, repair_timeout=3)
    assert timeouts.limits(settings) == timeouts.Limits(1.0, 2.0, 3.0)


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    ("grace", "patience"), [(None, 120.0), (600, 120.0), (60, 30.0), (30, 15.0), (4, 15.0)]
)
def test_a_request_does_not_outlast_the_grace(grace, patience):
    assert timeouts.limits(settings_module.load(grace=grace)).patience == patience
