"""What is in the images, and what is not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from mountkit import __version__
from support.containers import environment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.containers import Engine

# On the disk, all that the image has over its base, Python included; pulled it is a third of that.
# docker/README.md has the figures.
OWN_LAYERS_BYTES = 270_000_000
LABELS = ("title", "description", "licenses", "version")
# What builds something, and what only this building host knows.
NO_PROGRAMS = ("gcc", "cc", "c++", "make", "cmake", "cargo", "go", "uv", "pip", "curl", "gpg")
NO_FILES = (
    "/root/.cache",
    "/root/.config",
    "/var/lib/apt/lists/*Packages*",
    "/var/cache/apt/archives/*.deb",
    "/run/secrets/*",
    "/etc/pip.conf",
    "/opt/tools/*",
    "/source/*",
    "/tmp/*",
)


@pytest.fixture(params=["sidecar", "trainer"])
def image(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def inside(engine: Engine, image: str, script: str) -> str:
    """What a shell in the image prints, as root, without a mount."""
    words = ("run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "/bin/sh", image)
    return engine(*words, "-c", script)


def test_it_names_itself_and_trains_as_an_ordinary_user(engine: Engine, image: str) -> None:
    config = engine.image(image)["Config"]
    for label in LABELS:
        assert config["Labels"].get(f"org.opencontainers.image.{label}"), label
    assert config["User"] not in {"", "0", "root"}
    assert config["Entrypoint"]
    assert "mountkit status" in " ".join(config["Healthcheck"]["Test"])
    version = engine("run", "--rm", "--network", "none", image, "mountkit", "--version")
    assert __version__ in version


def test_nothing_of_the_building_is_in_it(engine: Engine, image: str) -> None:
    names = " ".join(NO_PROGRAMS)
    found = inside(engine, image, f"for each in {names}; do command -v $each || :; done")
    assert found == ""
    places = " ".join(NO_FILES)
    assert inside(engine, image, f"ls -d {places} 2>/dev/null || :") == ""


def test_no_layer_and_no_variable_holds_what_only_the_building_host_knows(
    engine: Engine, image: str
) -> None:
    history = engine("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    variables = environment_of(engine.image(image))
    for text in (history, *variables.values()):
        assert re.search(r"AWS_|password|://[^ /]*:[^ /]*@|index-url", text) is None
    # Certificates, package indexes and proxies of the building host came in as secrets.
    for name in variables:
        assert not re.search(r"(?i)proxy|index|_cert|ca_bundle|secret|token", name), name


def layers(engine: Engine, image: str) -> Iterator[tuple[int, str]]:
    sizes = engine(
        "history", "--human=false", "--no-trunc", "--format", "{{.Size}} {{.CreatedBy}}", image
    )
    for line in sizes.splitlines():
        size, _, made_by = line.partition(" ")
        yield int(size), made_by


def test_the_sidecar_is_small(engine: Engine, sidecar: str) -> None:
    *own, _base = layers(engine, sidecar)
    assert sum(size for size, _ in own) <= OWN_LAYERS_BYTES, own
