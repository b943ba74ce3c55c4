"""What `docker compose up` shows: a store, and a training whose checkpoints are proven in it."""

from __future__ import annotations

import os
import shlex
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.containers import Container, Engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_docker.plugin import Services

COMPOSE = Path(__file__).resolve().parents[2] / "docker" / "compose.yaml"
# Under a minute on a machine that has nothing else to do.
TRAINING_SECONDS = 600.0
SOURCE = "s3://runs/causal-lm"


@pytest.fixture(scope="session")
def docker_compose_command(engine: Engine) -> str:
    """The plugin, or the program of its own that it was before."""
    if engine.ask("compose", "version").code == 0:
        return "docker compose"
    if shutil.which("docker-compose") is None:
        pytest.skip("there is no docker compose: .ci/setup-container installs it")
    return "docker-compose"


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(COMPOSE)


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return f"mountkit{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def docker_setup(trainer: str) -> Iterator[list[str]]:
    with pytest.MonkeyPatch.context() as patch:
        # The one variable that a person may want to give; all the others have their defaults.
        patch.setenv("MOUNTKIT_IMAGE", trainer)
        yield ["up --detach --no-build"]


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    return ["down --volumes --timeout 5"]


@pytest.fixture
def compose(docker_compose_command: str, docker_compose_project_name: str) -> Engine:
    program, *words = shlex.split(docker_compose_command)
    words += ["--file", str(COMPOSE), "--project-name", docker_compose_project_name]
    return Engine(program, *words)


@pytest.mark.timeout(TRAINING_SECONDS + 200)
def test_a_training_saves_into_the_store_beside_it(
    engine: Engine, docker_services: Services, compose: Engine
) -> None:
    answer = Container(engine, compose("ps", "--quiet", "trainer")).wait(TRAINING_SECONDS)
    assert answer.code == 0, answer
    assert "all that was written is proven to be in s3://runs/causal-lm" in answer.err
    # By another container, which knows nothing but the store.
    latest = once(compose, "latest", SOURCE)
    assert latest.startswith(f"{SOURCE}/checkpoint-")
    once(compose, "verify", "--level", "readback", latest)


def once(compose: Engine, *words: str) -> str:
    """What a mountkit command of a container of its own prints."""
    assert os.environ["MOUNTKIT_IMAGE"]
    return compose("run", "--rm", "--no-deps", "-T", "trainer", "mountkit", *words, limit=120)
