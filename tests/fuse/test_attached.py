"""Scripts that have never heard of mountkit, below ``mountkit run``: attached, and resumed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support import preloaded
from support.installed import needs
from support.proxy import Fault
from support.ranks import free_port
from support.rig import MANIFEST, SCRIPTS, eventually
from support.runs import kill_all

if TYPE_CHECKING:
    from support.proxy import Request
    from support.rig import Bucket, Rig

needs("transformers", "torch", "peft", "trl")

REFUSED = Fault(403, "AccessDenied")
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


@pytest.mark.fault(4, 20, 22, 23)
def test_killed_and_submitted_again(script: Script) -> None:
    """The same command each time; proven while it trains; the losses of an undisturbed run."""
    rig = script.rig
    options = ["--subclass", "--steps", "7", "--save-steps", "2", "--limit", "1"]
    words = script.words("--pause-at", "5", *options)
    job = rig.begin(script.source, words, *rig.late, "--resume")
    rig.await_word("at-5", job)
    # The training stands still in its fifth step, and nothing has been drained.
    eventually(lambda: script.proven() == {4}, "proven while it trains")
    assert f"nothing to resume from in {rig.target}" in job.err
    assert job.err.count(ATTACHED) == 1
    kill_all(rig, job)
    said = script.run(["--resume"], *options)
    assert f"the training goes on from {rig.target}/checkpoint-4" in said
    assert script.report["began_at"] == [4]
    assert script.report["callbacks"] == ["Attached", "RunLogCallback"]
    logged = script.bucket.files("run")["logs/metrics.jsonl"].splitlines()
    assert json.loads(logged[-1])["step"] == 7
    # The one it was resumed from stays, and the newest.
    assert script.proven() == {4, 7}
    assert script.report["limit"] == 1
    resumed = script.report["losses"]
    assert list(resumed) == ["5", "6", "7"]
    script.source += "-undisturbed"
    said = script.run(["--no-attach"], *options)
    assert script.report["callbacks"] == []
    assert {step: script.report["losses"][step] for step in resumed} == resumed


@pytest.mark.fault(6, 24)
@pytest.mark.parametrize("what", ["state", "optimizer"])
def test_a_daemon_that_dies_while_a_training_is_resumed_costs_it_nothing(
    script: Script, what: str
) -> None:
    """Not the step, and not the optimizer: Trainer takes their files for some that never were."""
    rig = script.rig
    options = ["--subclass", "--save-steps", "2", "--limit", "1"]
    script.run([], *options, "--steps", "2")
    script.source += "-2"
    script.run([], *options, "--steps", "2")
    script.run(["--resume"], *options, "--steps", "5")
    undisturbed = script.report
    script.source = script.source.removesuffix("-2")
    words = script.words(*options, "--steps", "5", "--pause-loading", what)
    job = rig.begin(script.source, words, "--resume")
    rig.await_word("loading", job)
    rig.kill(rig.daemon())
    rig.say("go-loading")
    answer = job.wait()
    assert answer.code == 0, answer
    report = json.loads(script.file.read_text())
    assert (report["began_at"], undisturbed["began_at"]) == ([2], [2])
    assert report["losses"] == undisturbed["losses"]


@pytest.mark.fault(20, 45)
def test_a_trainer_that_leaves_a_save_out_goes_on(script: Script) -> None:
    said = script.run([], "--subclass", "--saves-from", "4", "--save-steps", "2", "--steps", "6")
    assert f"At step 2 nothing was saved in {script.rig.target}/checkpoint-2" in said
    assert script.proven() == {4, 6}


@pytest.mark.cached
@pytest.mark.fault(45)
@pytest.mark.parametrize("name", ["epoch-1", "kept"])
def test_a_proven_checkpoint_may_be_moved_to_a_name_that_is_none(script: Script, name: str) -> None:
    """Only the store has it by then, and the copies that it makes are young."""
    said = script.run([], "--steps", "6", "--move", name)
    assert "not proven" not in said
    assert f"{name}/{MANIFEST}" in script.bucket.everything("run")


@pytest.mark.fault(28)
@pytest.mark.parametrize("options", [(), ("--callback",)])
def test_a_node_that_would_train_by_itself_is_refused(script: Script, options: tuple) -> None:
    """As where accelerate, on each node of a cluster, hears nothing of the others."""
    rig = script.rig
    answer = rig.run(script.source, script.words("--steps", "2", *options), MOUNTKIT_NODE="1")
    assert answer.code == 1, answer
    assert "each node would train by itself" in answer.err
    assert script.proven() == set()


def test_an_adapter_and_a_callback_of_the_scripts_own(script: Script) -> None:
    said = script.run([], "--lora", "--callback", "--steps", "2", MOUNTKIT_RESUME="1")
    assert script.report["callbacks"] == ["CheckpointCallback", "RunLogCallback"]
    assert ATTACHED not in said
    assert script.proven() == {2}
    # Without it, from the adapter that is proven.
    said = script.run([], "--lora", "--steps", "4", MOUNTKIT_RESUME="1")
    assert script.report["callbacks"] == ["Attached", "RunLogCallback"]
    assert script.report["began_at"] == [2]
    assert script.proven() == {2, 4}
    # What the script says itself is what counts.
    options = ["--lora", "--steps", "4", "--resume-from", f"{script.rig.target}/checkpoint-2"]
    said = script.run(["--no-attach", "--resume"], *options)
    assert script.report["began_at"] == [2]
    assert "the script says itself what to begin with" in said


@pytest.mark.fault(20, 22, 27)
def test_ranks_that_know_nothing_go_on_together(script: Script) -> None:
    """One manifest of both while they train; submitted again, both go on from it."""
    rig = script.rig

    def ranks(*options: str) -> list[str]:
        how = [str(SCRIPTS / "launch.py"), "1", "0", "2", str(free_port())]
        return [rig.python, "-S", *how, *script.words(*options)]

    job = rig.begin(script.source, ranks("--steps", "6", "--pause-at", "3"), *rig.late, "--resume")
    rig.await_word("at-3", job)
    eventually(lambda: script.proven() == {2}, "proven while they train")
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= files_of(script.bucket, 2)
    kill_all(rig, job)
    answer = rig.run(script.source, ranks("--steps", "6"), *rig.late, "--resume")
    assert answer.code == 0, answer
    assert answer.err.count(f"the training goes on from {rig.target}/checkpoint-2") == 1
    assert json.loads(script.file.read_text())["began_at"] == [2]
    assert script.proven() == {2, 4, 6}


def files_of(bucket: Bucket, step: int) -> set[str]:
    manifest = bucket.manifest(f"run/checkpoint-{step}")
    return {file["path"] for file in manifest["files"]} if manifest else set()


@pytest.mark.fault(22, 24, 32)
def test_what_cannot_be_resumed_from_is_passed_over(script: Script) -> None:
    script.run(["--resume"], "--steps", "4")
    assert script.proven() == {2, 4}
    script.run(["--resume"], "--steps", "6", "--weights-only")
    assert script.report["began_at"] == [4]
    assert script.proven() == {2, 4, 6}
    (script.bucket.disk / "run/checkpoint-4/optimizer.pt").unlink()
    # True means the newest, in an argument too. A second training goes by the script alone.
    options = ["--steps", "3", "--resume-from", "true", "--twice"]
    said = script.run(["--resume"], *options)
    assert "checkpoint-6 is passed over: a training cannot go on from it: it has no opt" in said
    assert "checkpoint-4 is passed over: 'optimizer.pt' is missing" in said
    assert script.report["began_at"] == [2, 0]


@pytest.mark.fault(23)
def test_weights_to_begin_with(script: Script) -> None:
    """Of another run in the bucket; with a learning rate of 0 they are what is saved again."""
    script.run(["--no-attach"], "--steps", "2", "--weights-only")
    expected = script.bucket.files("run/checkpoint-2")["model.safetensors"]
    other = f"s3://{script.bucket.name}/run"
    for kind in ([], ["--model-init"]):
        script.source = f"s3://{script.bucket.name}/tuned{len(kind)}"
        options = ["--steps", "1", "--save-steps", "1", "--learning-rate", "0", *kind]
        said = script.run(["--resume", "--load-path", other], *options)
        assert f"the training begins with the weights of {other}" in said
        assert script.report["began_at"] == [0]
        found = script.bucket.files(f"tuned{len(kind)}/checkpoint-1")
        assert found["model.safetensors"] == expected


@pytest.mark.fault(22, 23)
def test_weights_to_begin_with_of_a_run_that_is_mounted_are_proven(script: Script) -> None:
    script.run(["--no-attach"], "--steps", "2", "--weights-only")
    expected = script.bucket.files("run/checkpoint-2")["model.safetensors"]
    for name in ("model.safetensors", "trainer_state.json"):
        key = f"run/checkpoint-9/{name}"
        script.bucket.client().put_object(Bucket=script.bucket.name, Key=key, Body=b"torn")
    other = script.rig.work / "other"
    mounted = script.rig.mount(f"s3://{script.bucket.name}/run", target=other)
    assert mounted.code == 0, mounted
    script.source = f"s3://{script.bucket.name}/tuned"
    options = ["--steps", "1", "--save-steps", "1", "--learning-rate", "0"]
    said = script.run(["--load-path", str(other)], *options)
    assert "checkpoint-9 is passed over" in said
    found = script.bucket.files("tuned/checkpoint-1")
    assert found["model.safetensors"] == expected
    assert script.rig.umount(target=other).code == 0


@pytest.mark.fault(24)
def test_where_the_callback_cannot_serve_the_end_proves(script: Script) -> None:
    words = ["env", "MOUNTKIT_STALL_TIMEOUT=soon", *script.words("--steps", "2", "--limit", "1")]
    answer = script.rig.run(script.source, words, *script.rig.late)
    assert answer.code == 0, answer
    line = f"the checkpoints of {script.rig.target} are proven at the end: stall_timeout"
    assert answer.err.count(line) == 1
    assert ATTACHED not in answer.err
    assert json.loads(script.file.read_text())["limit"] == 1
    assert script.proven() == {2}


@pytest.mark.fault(2, 18)
def test_a_store_that_refuses_a_checkpoint_ends_the_training(script: Script) -> None:
    def rule(request: Request) -> Fault | None:
        writes = request.method in {"PUT", "POST"}
        return REFUSED if writes and request.key.endswith("model.safetensors") else None

    proxy = script.rig.proxy()
    proxy.rule = rule
    words = script.words("--steps", "50")
    answer = script.rig.run(script.source, words, *script.rig.late, endpoint=proxy.url)
    assert answer.code == 1, answer
    trained = answer.err.partition("the command ended")[0]
    assert "checkpoint-2/model.safetensors" in trained
    assert "AccessDenied" in trained
    # It has not trained on without a checkpoint.
    assert len(json.loads(script.file.read_text())["losses"]) < 10
    assert script.proven() == set()


@pytest.mark.fault(26)
def test_the_command_of_trl_as_it_is(rig: Rig, bucket: Bucket) -> None:
    made = rig.work / "made"
    maker = preloaded.command(rig.python, SCRIPTS / "tiny_model.py", [str(made)])
    assert rig.start(*maker).wait().code == 0
    command = [
        *(rig.python, "-m", "trl.scripts.sft", "--model_name_or_path", str(made / "model")),
        *("--dataset_name", str(made / "data"), "--output_dir", str(rig.target)),
        *("--max_steps", "4000", "--save_steps", "4", "--save_total_limit", "2", "--use_cpu"),
        *("--per_device_train_batch_size", "2", "--logging_steps", "1000", "--bf16", "false"),
        *("--report_to", "none", "--dataset_num_proc", "1", "--max_length", "32"),
    ]
    env = {"HF_HOME": str(rig.work / "hub"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    source = f"s3://{bucket.name}/run"

    def proven() -> list[int]:
        paths = [path.split("/")[0] for path in bucket.everything("run") if path.endswith(MANIFEST)]
        return sorted(int(name.removeprefix("checkpoint-")) for name in paths)

    job = rig.begin(source, command, *rig.late, "--resume", limit=200, **env)
    eventually(lambda: job.ended() or len(proven()) == 2, "proven while it trains", 120)
    assert not job.ended(), job.wait()
    kill_all(rig, job)
    newest = proven()[-1]
    last = ["--max_steps", str(newest + 4)]
    answer = rig.run(source, [*command, *last], *rig.late, "--resume", limit=200, **env)
    assert answer.code == 0, answer
    assert f"the training goes on from {rig.target}/checkpoint-{newest}" in answer.err
    assert answer.err.count(ATTACHED) == 1
    assert proven()[-2:] == [newest, newest + 4]
    assert "model.safetensors" in bucket.files("run")


@pytest.mark.fault(20, 22)
def test_what_was_pruned_after_a_kill_is_not_missed(script: Script) -> None:
    rig = script.rig
    options = ["--steps", "7", "--save-steps", "2"]
    job = rig.begin(script.source, script.words("--pause-at", "5", *options), *rig.late, "--resume")
    rig.await_word("at-5", job)
    eventually(lambda: script.proven() == {2, 4}, "proven while it trains")
    kill_all(rig, job)
    endpoint = ("--endpoint-url", rig.server.endpoint_url)
    pruned = rig.mountkit("prune", script.source, "--keep", "1", *endpoint)
    assert pruned.code == 0, pruned
    said = script.run(["--resume"], *options)
    assert script.proven() == {4, 6, 7}
    if not rig.write_back:
        # Where nothing is kept here, the daemon's log alone tells of it.
        assert "checkpoint-2 was proven by an earlier run, and was removed" in said
