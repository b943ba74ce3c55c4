"""Scripts that do more with Trainers than to train one: what each does is its first argument."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from light import wait_for
from transformers import Trainer, TrainerCallback, TrainingArguments

DATA = [{"x": torch.ones(2), "labels": torch.zeros(2)} for _ in range(8)]


class Model(torch.nn.Module):
    """One layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, x=None, labels=None):
        output = self.layer(x)
        return {"loss": ((output - labels) ** 2).mean(), "logits": output}


def trainer(output: str, *callbacks: TrainerCallback, **options) -> Trainer:
    arguments = TrainingArguments(
        output, per_device_train_batch_size=4, report_to=[], use_cpu=True, logging_steps=1,
        disable_tqdm=True, **options,
    )  # fmt: skip
    data = {"train_dataset": DATA, "eval_dataset": DATA}
    return Trainer(Model(), arguments, callbacks=[*callbacks], **data)


class Averaged(TrainerCallback):
    """Puts other weights in at an evaluation, and asks for a save."""

    def on_evaluate(self, args, state, control, model=None, **_):
        with torch.no_grad():
            model.layer.weight.fill_(2.0)
        control.should_save = True


class Half(TrainerCallback):
    """Is killed in the middle of adding a file to a checkpoint."""

    def on_save(self, args, state, control, **_):
        with Path(args.output_dir, f"checkpoint-{state.global_step}", "ema.pt").open("wb") as file:
            file.write(bytes(300_000))
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)


class Leaving(TrainerCallback):
    """Saves by itself, and leaves, as at the end of an allocation."""

    trainer: Trainer | None = None

    def on_step_end(self, args, state, control, **_):
        if state.global_step == 2:
            self.trainer._save_checkpoint(self.trainer.model, None)
            os._exit(0)


class Once(TrainerCallback):
    """Lets the first training end with an error while its last checkpoint is being proven."""

    def __init__(self, gates: Path) -> None:
        self.gates = gates
        self.trainings = 0

    def on_train_begin(self, args, state, control, **_):
        self.trainings += 1
        (self.gates / f"begins-{self.trainings}-at-{state.global_step}").touch()

    def on_step_begin(self, args, state, control, **_):
        if self.trainings == 1 and state.global_step == 4:
            (self.gates / "shut").touch()
            raise RuntimeError("CUDA out of memory")

    def on_save(self, args, state, control, **_):
        if self.trainings == 1 and state.global_step == 4:
            # Before the proof of it has begun.
            (self.gates / "saved-4").touch()
            wait_for(self.gates / "slow")


def retried(output: str, gates: Path) -> None:
    options = {"max_steps": 8, "save_steps": 2, "save_total_limit": 1}
    one = trainer(output, Once(gates), **options)
    try:
        one.train()
    except RuntimeError:
        one.train()


def evaluated(output: str, _: Path) -> None:
    trainer(output, Averaged(), max_steps=2, save_steps=2, eval_strategy="epoch").train()


def killed(output: str, _: Path) -> None:
    trainer(output, Half(), max_steps=2, save_steps=2).train()


def left(output: str, _: Path) -> None:
    leaving = Leaving()
    leaving.trainer = trainer(output, leaving, max_steps=4, save_strategy="no")
    leaving.trainer.train()


def two(output: str, _: Path) -> None:
    first = trainer(output, max_steps=1, save_strategy="no")
    first.train()
    trainer(output, max_steps=2, save_strategy="no").train()
    first.evaluate()


if __name__ == "__main__":
    kind, output_dir, place = sys.argv[1:]
    KINDS = {each.__name__: each for each in (retried, evaluated, killed, left, two)}
    KINDS[kind](output_dir, Path(place))
