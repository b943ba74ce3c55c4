"""The examples, as a user runs them: under ``mountkit run``, once, and once more to go on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mountkit import examples
from support import preloaded
from support.installed import needs
from support.rig import MANIFEST, SCRIPTS

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

needs("transformers", "torch", "peft")

FOLDER = Path(examples.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))
WEIGHTS = {"lora": "adapter_model.safetensors"}


@pytest.mark.fault(23, 26)
@pytest.mark.parametrize("name", NAMES)
def test_it_trains_and_goes_on_where_it_was(rig: Rig, bucket: Bucket, name: str) -> None:
    source, script = f"s3://{bucket.name}/run", SCRIPTS / "example.py"
    for steps in (4, 6):
        words = [
            f"mountkit.examples.{name}",
            str(rig.target),
            "--steps",
            str(steps),
            "--save-steps",
            "2",
        ]
        answer = rig.run(source, preloaded.command(rig.python, script, words))
        assert answer.code == 0, answer
    found = rig.ask("latest", source)
    assert found.out == f"{source}/checkpoint-6\n", found
    assert rig.ask("verify", f"{source}/checkpoint-6").code == 0
    files = bucket.everything("run")
    weights = WEIGHTS.get(name, "model.safetensors")
    assert {f"checkpoint-6/{weights}", f"checkpoint-6/{MANIFEST}", f"final/{weights}"} <= {*files}
    assert "final/tokenizer.json" in files
    log = files["logs/training.log"].decode()
    assert re.findall(r"begins at step (\d+)", log) == ["0", "4"]
    state = json.loads(files["checkpoint-6/trainer_state.json"])
    assert state["global_step"] == 6


@pytest.mark.parametrize("name", NAMES)
def test_its_first_words_are_how_to_run_it(name: str) -> None:
    assert f"-- python -m mountkit.examples.{name} DIR" in (FOLDER / f"{name}.py").read_text()
