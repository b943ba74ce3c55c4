"""``mountkit demo`` on every store: each claim holds, and nothing is left."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from mountkit.demo.choice import Wish
from mountkit.demo.claims import Plan
from mountkit.demo.scenario import run_demo
from support import preloaded
from support.demo_stores import skip_without
from support.every_store import KINDS
from support.installed import needs
from support.rig import SCRIPTS

if TYPE_CHECKING:
    from pathlib import Path

needs("transformers", "torch")

pytestmark = [pytest.mark.fault(6, 32), pytest.mark.usefixtures("fuse", "rclone")]
#: The same story with fewer steps and saves; step 7 is run by both lives.
SHORT = Plan(steps=9, save_steps=3, kill_at=4, stop_at=8)
#: Half a minute each, of which most is the same on all of them.
LONG = pytest.mark.chaos


def play(wish: Wish) -> int:
    words = ["mountkit.demo.training"]
    training = preloaded.command(sys.executable, SCRIPTS / "example.py", words)
    return run_demo(wish, SHORT, training)


@pytest.mark.parametrize(
    "store", ["sftp", "gs", pytest.param("az", marks=LONG), pytest.param("hdfs", marks=LONG)]
)
def test_every_claim_holds_on(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    skip_without(store)
    before = dict(os.environ)
    code = play(Wish(store=store))
    told = capsys.readouterr().err
    assert code == 0, told
    assert "✗" not in told
    assert "verify exits 74 and names model.safetensors; latest then gives checkpoint-6" in told
    assert dict(os.environ) == before


@pytest.mark.parametrize("store", ["gs", pytest.param("sftp", marks=LONG)])
def test_a_place_of_the_users_is_left_as_it_was(
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with KINDS[store](tmp_path) as kind:
        for name, value in kind.environment.items():
            monkeypatch.setenv(name, value)
        kind.put("mine/run-1/model.bin", b"somebody else's")
        code = play(Wish(source=kind.url("mine")))
        told = capsys.readouterr().err
        assert code == 0, told
        assert "latest then gives checkpoint-6" in told
        assert kind.objects("mine") == {"run-1/model.bin": b"somebody else's"}
