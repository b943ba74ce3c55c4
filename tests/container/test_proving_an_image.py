"""`docker/test.sh`, which proves an image to whoever has built one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.containers import Engine

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "test.sh"
# Minutes where the machine has other things to do: it trains, twice.
LIMIT_SECONDS = 800
END_SECONDS = 60


def prove(image: str) -> tuple[int, str]:
    """How it ends, and the table that it prints."""
    with subprocess.Popen(
        [SCRIPT, image],
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            told, _ = process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            # Not SIGKILL: it removes its containers.
            process.terminate()
            told, _ = process.communicate(timeout=END_SECONDS)
            raise AssertionError(f"not over after {LIMIT_SECONDS} s:\n{told}") from None
        return process.returncode, told


@pytest.mark.timeout(LIMIT_SECONDS + 2 * END_SECONDS)
def test_of_the_trainer_all_holds(trainer: str) -> None:
    code, told = prove(trainer)
    assert code == 0, told
    assert "The image holds." in told
    assert "FAILED" not in told


def test_one_that_is_not_there(engine: Engine) -> None:
    code, told = prove("mountkit-test/none:none")
    assert code == 1, told
    assert "There is no image mountkit-test/none:none" in told
