"""What the stores that the demo starts need of this machine."""

from __future__ import annotations

import importlib.util
import shutil

import pytest

from mountkit.demo.choice import DEFAULT, SERVERS

PACKAGES = {"gs": "google.cloud.storage", "az": "azure.storage.blob"}


def skip_without(store: str | None) -> None:
    """Skip the test where the server of a store, or its client, is not there."""
    program, _ = SERVERS[store or DEFAULT]
    if program and shutil.which(program) is None:
        pytest.skip(f"{program} is not there: PATH=$(.ci/setup-stores):$PATH")
    package = PACKAGES.get(store or "")
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install 'mountkit[{store}]'")
