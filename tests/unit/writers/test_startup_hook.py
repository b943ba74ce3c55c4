"""What the Pythons that are started below a mount find in their environment, and for how long."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mountkit.writers import startup_hook


def mount(backend: str) -> Any:
    return SimpleNamespace(
        path="/mnt",
        directory=SimpleNamespace(path=Path("/state")),
        spec=SimpleNamespace(backend=backend),
    )


@pytest.mark.parametrize("path", [None, "/mine"])
def test_it_is_handed_on_as_long_as_the_mount_lasts(monkeypatch, path):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if path:
        monkeypatch.setenv("PYTHONPATH", path)
    before = dict(os.environ)
    with startup_hook.handed_on(mount("mountpoint")):
        place = json.loads(os.environ[startup_hook.VARIABLE])
        assert place == {"path": "/mnt", "directory": "/state"}
        paths = os.environ["PYTHONPATH"].split(os.pathsep)
        assert paths == [str(startup_hook.FOLDER), *([path] if path else [])]
    assert dict(os.environ) == before


def test_what_somebody_else_set_meanwhile_stays(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/mine")
    with startup_hook.handed_on(mount("mountpoint")):
        monkeypatch.setenv("PYTHONPATH", "/theirs")
    assert os.environ["PYTHONPATH"] == "/theirs"
    assert startup_hook.VARIABLE not in os.environ


def test_a_mount_that_can_rename_hands_nothing_on():
    before = dict(os.environ)
    with startup_hook.handed_on(mount("rclone")):
        assert dict(os.environ) == before
