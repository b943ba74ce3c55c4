"""Scripts that have never heard of mountkit, below ``mountkit run``: attached, and resumed."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from support import preloaded
from support.installed import needs
from support.rig import MANIFEST, SCRIPTS, eventually

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

needs("transformers", "torch", "peft")

WHOLE = {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
ATTACHED = "attached to the Trainer of"


class Script:
    """The command lines of the script, and what each told."""

    def __init__(self, rig: Rig, bucket: Bucket) -> None:
        self.rig = rig
        self.bucket = bucket
        self.source = f"s3://{bucket.name}/run"
        self.report: dict[str, Any] = {}
        self._count = 0

    def words(self, *options: str) -> list[str]:
        self._count += 1
        self.file = self.rig.work / f"report-{self._count}.json"
        places = [str(self.rig.target), str(self.rig.gates), str(self.file)]
        return preloaded.command(
            self.rig.python, SCRIPTS / "plain.py", [*places, "--pause-at", "-1", *options]
        )

    def run(self, flags: list[str], *options: str, code: int = 0, **env: str) -> str:
        """To its end; what was said."""
        answer = self.rig.run(self.source, self.words(*options), *self.rig.late, *flags, **env)
        assert answer.code == code, answer
        self.report = json.loads(self.file.read_text())
        return answer.err

    def proven(self) -> set[int]:
        paths = self.bucket.everything("run")
        return {
            int(path.split("/")[0].removeprefix("checkpoint-"))
            for path in paths
            if path.endswith(MANIFEST)
        }


@pytest.fixture
def script(rig: Rig, bucket: Bucket) -> Script:
    return Script(rig, bucket)


@pytest.mark.fault(4, 22, 23)
@pytest.mark.parametrize("kind", ["--subclass", "--lora"])
def test_killed_and_submitted_again(script: Script, kind: str) -> None:
    """The same command each time; proven while it trains; the losses of an undisturbed run."""
    rig = script.rig
    options = [kind, "--steps", "7", "--save-steps", "2"]
    words = script.words("--pause-at", "5", *options)
    job = rig.begin(script.source, words, *rig.late, "--resume")
    rig.await_word("at-5", job)
    # The training stands still in its fifth step, and nothing has been drained.
    eventually(lambda: script.proven() == {2, 4}, "proven while it trains")
    assert f"nothing to resume from in {rig.target}" in job.err
    assert ATTACHED in job.err
    for process in [rig.supervisor(), rig.daemon()]:
        process.send_signal(signal.SIGKILL)
    job.wait()
    said = script.run(["--resume"], *options)
    assert f"the training goes on from {rig.target}/checkpoint-4" in said
    assert script.report["began_at"] == [4]
    assert script.proven() == {2, 4, 6, 7}
    resumed = script.report["losses"]
    assert list(resumed) == ["5", "6", "7"]
    script.source += "-undisturbed"
    script.run(["--no-attach"], *options)
    assert {step: script.report["losses"][step] for step in resumed} == resumed
