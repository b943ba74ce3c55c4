"""Settings that nothing of this machine decides."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A directory without a mountkit.toml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
