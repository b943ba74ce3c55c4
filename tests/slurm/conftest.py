"""A Slurm, a store and a place to mount at, for each test; collected only where it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fuse.conftest import (
    backend,
    bucket,
    fuse,
    make_rig,
    pytest_collection_modifyitems,
    pytest_runtest_makereport,
    rclone,
    rig,
    server,
)
from support.slurm import Slurm, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.rig import Rig

HERE = Path(__file__).resolve().parent

__all__ = [
    "backend",
    "bucket",
    "fuse",
    "make_rig",
    "pytest_collection_modifyitems",
    "pytest_runtest_makereport",
    "rclone",
    "rig",
    "server",
]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`make test` needs no Slurm: these tests have to be named."""
    named = any(
        Path(word.partition("::")[0]).resolve().is_relative_to(HERE) for word in config.args
    )
    return None if named or not collection_path.name.startswith("test_") else True


@pytest.fixture(scope="session")
def programs() -> None:
    """What a cluster is made of."""
    if lacking := missing():
        pytest.skip(f"There is no {', '.join(lacking)}: apt-get install slurm-wlm munge")


@pytest.fixture
def make_slurm(programs: None, rig: Rig) -> Iterator[Callable[..., Slurm]]:
    """Start a cluster; its daemons and all that its jobs have left are gone after the test."""
    made: list[Slurm] = []

    def make(**how: object) -> Slurm:
        slurm = Slurm(rig.work / f"slurm{len(made)}", **how)
        made.append(slurm)
        return slurm.__enter__()

    yield make
    for slurm in made:
        slurm.__exit__()


@pytest.fixture
def slurm(make_slurm: Callable[..., Slurm]) -> Slurm:
    """One node, with 30 seconds from the SIGTERM of a preemption on."""
    return make_slurm()
