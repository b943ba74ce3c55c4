"""Every way in which a Trainer saves, each in a folder of its own, one after the other.

``python ways.py OUTPUT_DIR REFERENCE REPORT WAY...``. Each way's saves are copied to REFERENCE, and
REPORT gets what it saw.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

import mountkit
from mountkit.events import CheckpointProven, ProofStarted

SENTINEL = "checkpoint-is-incomplete.txt"


class Watcher(TrainerCallback):
    """Copies every save, and notes what there was at that moment."""

    def __init__(self, reference: Path) -> None:
        self.reference = reference
        self.proven: list[int] = []
        self.there: dict[int, list[str]] = {}
        self.folder: Path | None = None
        # Asked for when the step begins; the proof of what is saved then waits for it.
        self.signal_at = -1
        self.hold = -1
        self.let_go = threading.Event()
        self.manager = None
        self.room: Path | None = None
        self.most = 0

    def see(self, event: object) -> None:
        if isinstance(event, CheckpointProven):
            self.proven.append(event.step)
        if isinstance(event, ProofStarted) and event.step == self.hold:
            assert self.let_go.wait(60)

    def copy(self, top: Path) -> None:
        shutil.copytree(top, self.reference / top.name, dirs_exist_ok=True)

    def on_save(self, args, state, control, **_):
        top = (self.folder or Path(args.output_dir)) / f"checkpoint-{state.global_step}"
        self.copy(top)
        self.there[state.global_step] = sorted(
            path.name for path in top.parent.iterdir() if path.name.startswith("checkpoint-")
        )
        if self.room is not None:
            self.most = max(self.most, taken(self.room))

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.signal_at:
            self.signal_at = -1
            os.kill(os.getpid(), signal.SIGTERM)
            limit = time.monotonic() + 60
            # Trainer saves before the optimizer's next step, which is this one's.
            while not self.manager.is_checkpoint_requested:
                assert time.monotonic() < limit
                time.sleep(0.01)
            threading.Timer(2.0, self.let_go.set).start()


def taken(room: Path) -> int:
    """The bytes that files take on a disk; some may go meanwhile."""
    found = 0
    for folder, _, names in os.walk(room):
        for name in names:
            try:
                found += (Path(folder) / name).stat().st_blocks * 512
            except FileNotFoundError:
                continue
    return found


def gpt2(width: int = 32) -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=64,
            n_positions=16,
            n_embd=width,
            n_layer=1,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def rows(count: int = 64) -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    found = torch.randint(0, 64, (count, 16), generator=generator)
    return [{"input_ids": row, "labels": row} for row in found]


class Way:
    """What a way of saving works with."""

    def __init__(self, output: Path, reference: Path) -> None:
        self.output = output
        self.reference = reference
        reference.mkdir()
        self.watcher = Watcher(reference)
        self.callback = mountkit.CheckpointCallback(on_event=self.watcher.see)

    def arguments(self, **more) -> TrainingArguments:
        given = {
            "output_dir": str(self.output),
            "max_steps": 4,
            "save_steps": 2,
            "per_device_train_batch_size": 4,
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
        }
        return TrainingArguments(**{**given, **more})

    def trainer(self, model=None, callbacks=None, **more) -> Trainer:
        options = {
            name: more.pop(name) for name in ("processing_class", "model_init") if name in more
        }
        return Trainer(
            model=model if "model_init" in options else model or gpt2(),
            args=self.arguments(**more),
            train_dataset=rows(),
            eval_dataset=rows(8),
            callbacks=[self.watcher, self.callback] if callbacks is None else callbacks,
            **options,
        )


def epochs(way: Way) -> None:
    way.trainer(max_steps=-1, num_train_epochs=2, save_strategy="epoch").train()


def best(way: Way) -> dict:
    """The best is the first, whose local copy is gone by the end."""
    trainer = way.trainer(
        eval_strategy="steps",
        eval_steps=2,
        metric_for_best_model="eval_loss",
        greater_is_better=True,
        load_best_model_at_end=True,
        save_total_limit=1,
        max_steps=6,
        learning_rate=1e-3,
    )
    trainer.train()
    weights = trainer.model.state_dict()
    from safetensors.torch import load_file

    saved = load_file(way.reference / "checkpoint-2/model.safetensors")
    return {
        "best": Path(trainer.state.best_model_checkpoint).name,
        "loaded": all(torch.equal(weights[name], value) for name, value in saved.items()),
    }


def only_the_best(way: Way) -> None:
    way.trainer(
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="best",
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        learning_rate=1e-3,
    ).train()


def only_model(way: Way) -> None:
    way.trainer(save_only_model=True).train()


def adapters(way: Way) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True)
    trainer = way.trainer(get_peft_model(gpt2(), config))
    trainer.train()
    trainer.save_model(str(way.output / "final"))
    way.watcher.copy(way.output / "final")


def tokenizer(way: Way) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="a", pad_token="a")
    trainer = way.trainer(processing_class=fast)
    trainer.train()
    trainer.save_model(str(way.output / "final"))
    way.watcher.copy(way.output / "final")


def twice(way: Way) -> dict:
    """A second training in one process resumes from what the first has proven."""
    way.trainer(max_steps=4).train()
    newest = mountkit.latest_checkpoint(way.output)
    trainer = way.trainer(max_steps=6)
    trainer.train(resume_from_checkpoint=newest)
    # And a third, by the same Trainer, which begins from the start again, elsewhere.
    trainer.args.output_dir = str(way.output / "third")
    trainer.args.max_steps = 2
    trainer.train()
    return {"resumed_from": newest}


def added_later(way: Way) -> None:
    """The callback comes after the Trainer was made, which has a rotation of its own."""
    trainer = way.trainer(callbacks=[way.watcher], save_total_limit=1, max_steps=6)
    way.watcher.hold = 4
    threading.Timer(2.0, way.watcher.let_go.set).start()
    trainer.add_callback(way.callback)
    trainer.train()


def search(way: Way) -> dict:
    """A hyper-parameter search, in a stand-in for optuna: trials one after the other."""
    import types

    from transformers import hyperparameter_search, trainer_utils
    from transformers.integrations import integration_utils

    class Trial:
        def __init__(self, number: int) -> None:
            self.number = number
            self.params = {"learning_rate": 10.0 ** -(number + 2)}

    class Study:
        best_trial = None

        def optimize(self, objective, n_trials, **_):
            for number in range(n_trials):
                trial = Trial(number)
                way.watcher.folder = way.output / f"run-{number}"
                way.watcher.reference = way.reference / f"run-{number}"
                way.watcher.reference.mkdir()
                trial.value = objective(trial)
                self.best_trial = trial

        def _is_multi_objective(self):
            return False

    module = types.ModuleType("optuna")
    module.trial = types.SimpleNamespace(BaseTrial=Trial)
    module.Trial = Trial
    module.create_study = lambda **_: Study()
    sys.modules["optuna"] = module
    integration_utils.is_optuna_available = lambda: True
    hyperparameter_search.is_optuna_available = lambda: True
    trainer = way.trainer(model_init=lambda _: gpt2(), save_total_limit=1)
    trainer.hyperparameter_search(
        hp_space=lambda trial: trial.params, backend="optuna", n_trials=2, direction="minimize"
    )
    way.watcher.folder, way.watcher.reference = None, way.reference
    # The training after it saves in output_dir again.
    trainer.train()
    assert trainer_utils is not None
    return {name: mountkit.latest_checkpoint(way.output / name) for name in ("run-0", "run-1", ".")}


def push(way: Way) -> None:
    trainer = way.trainer(
        push_to_hub=True, hub_model_id="me/model", hub_token="hf_x", hub_strategy="every_save"
    )
    trainer.train()
    trainer.push_to_hub()


def _on_signal(way: Way, step: int, **more) -> dict:
    trainer = way.trainer(enable_jit_checkpoint=True, **more)
    for one in trainer.callback_handler.callbacks:
        manager = getattr(one, "jit_manager", None)
        if manager is not None:
            manager.kill_wait = 0
            way.watcher.manager = manager
    seen: list[str] = []
    save = trainer._save_checkpoint

    def save_and_copy(*arguments, **options):
        result = save(*arguments, **options)
        name = f"checkpoint-{trainer.state.global_step}"
        way.watcher.copy(way.output / name)
        seen.append(name)
        # The rest of the signal's work is over by the end of the save.
        (way.reference / name / SENTINEL).unlink(missing_ok=True)
        return result

    trainer._save_checkpoint = save_and_copy
    way.watcher.signal_at = step
    trainer.train()
    return {"saved": seen, "ended_at": trainer.state.global_step}


def on_signal(way: Way) -> dict:
    return _on_signal(way, 3, max_steps=200, save_steps=100)


def on_signal_after_a_save(way: Way) -> dict:
    """The very state of a step whose proof is under way."""
    way.watcher.hold = 2
    return _on_signal(way, 2, max_steps=200, save_steps=2)


def many(way: Way) -> dict:
    """25 checkpoints of about 4 MB, in the room that the environment names."""
    way.watcher.room = Path(os.environ["ROOM"])
    way.trainer(gpt2(160), max_steps=25, save_steps=1).train()
    return {"most": way.watcher.most}


WAYS = {
    each.__name__: each
    for each in (
        epochs, best, only_the_best, only_model, adapters, tokenizer, twice, added_later, search,
        push, on_signal, on_signal_after_a_save, many,
    )
}  # fmt: skip


def main() -> None:
    output, reference, report, *names = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    torch.set_num_threads(1)
    found = {}
    for name in names:
        set_seed(1)
        way = Way(Path(output) / name, Path(reference) / name)
        told = WAYS[name](way) or {}
        found[name] = {**told, "proven": way.watcher.proven, "there": way.watcher.there}
        Path(report).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
