"""The suite of the chart: it runs where it is named, with the programs of .ci/setup-chart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.chart import crds

#: How many .ci/setup-chart gets.
DEFINITIONS = 8
PROGRAMS = ("helm3", "helm4", "helm-unittest", "helm-docs", "kube-score")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the suite to those who name it: it is none of `make test`."""
    here = Path(__file__).parent
    named = [Path(word.partition("::")[0]).resolve() for word in config.args]
    return None if any(path.is_relative_to(here) for path in named) else True


@pytest.fixture(autouse=True, scope="session")
def programs() -> None:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if not missing and len(list(crds().glob("*.yaml"))) < DEFINITIONS:
        missing = ["directory of custom resource definitions"]
    if missing:
        pytest.skip(f"there is no {', '.join(missing)} on PATH: make test-chart builds them")
