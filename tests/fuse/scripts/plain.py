"""A training as a user has it who has never heard of mountkit; pauses where the test says."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from light import wait_for
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)


class Notes(TrainerCallback):
    """What the training did, and a pause at one of its steps."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.began_at: list[int] = []
        self.losses: dict[int, float] = {}

    def on_train_begin(self, args, state, control, **_):
        self.began_at.append(state.global_step)

    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs:
            self.losses[state.global_step] = logs["loss"]
            if self.options.notes:
                with self.options.notes.open("a") as file:
                    file.write(f"{json.dumps([state.global_step, logs['loss']])}\n")

    def on_step_end(self, args, state, control, **_):
        if state.global_step in self.options.pause_at:
            (self.options.gates / f"at-{state.global_step}").touch()
            wait_for(self.options.gates / f"go-at-{state.global_step}")


class Everybody(Trainer):
    """A Trainer of somebody's own, whose train() takes no argument."""

    gates: Path | None = None
    pauses_before = ""
    saves_from = 0

    def _save_checkpoint(self, *arguments, **options):
        if self.state.global_step >= self.saves_from:
            super()._save_checkpoint(*arguments, **options)

    def _pause(self, what: str) -> None:
        if self.pauses_before == what:
            (self.gates / "loading").touch()
            wait_for(self.gates / "go-loading")

    def _init_training_state(self, *arguments, **options):
        self._pause("state")
        return super()._init_training_state(*arguments, **options)

    def _load_optimizer_and_scheduler(self, checkpoint):
        self._pause("optimizer")
        super()._load_optimizer_and_scheduler(checkpoint)

    def train(self):
        return super().train()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output_dir")
    parser.add_argument("gates", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--save-steps", type=int, default=2)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--pause-at", type=int, action="append", default=[])
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--subclass", action="store_true")
    parser.add_argument("--notes", type=Path, help="a line for each loss, also of a killed one")
    parser.add_argument("--callback", action="store_true", help="the script has mountkit's itself")
    parser.add_argument("--resume-from", help="train()'s argument: a path, true or false")
    parser.add_argument("--weights-only", action="store_true")
    parser.add_argument("--model-init", action="store_true")
    parser.add_argument("--pause-loading", default="", help="before what: state or optimizer")
    parser.add_argument("--twice", action="store_true", help="train() once more")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--saves-from", type=int, default=0, help="leaves earlier saves out")
    parser.add_argument("--move", help="what the first checkpoint is called in the end")
    options = parser.parse_args()
    Everybody.saves_from = options.saves_from

    if options.pause_loading:
        Everybody.gates, Everybody.pauses_before = options.gates, options.pause_loading
    torch.set_num_threads(1)
    set_seed(1)
    rows = torch.randint(0, 64, (64, 16), generator=torch.Generator().manual_seed(1))
    notes = Notes(options)
    callbacks: list[TrainerCallback] = [notes]

    def make() -> GPT2LMHeadModel:
        sizes = {"vocab_size": 64, "n_positions": 16, "n_embd": 32, "n_layer": 1, "n_head": 2}
        return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))

    model = make()
    if options.lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn"]))
    if options.callback:
        import mountkit

        callbacks.append(mountkit.CheckpointCallback())
    trainer = (Everybody if options.subclass else Trainer)(
        model=None if options.model_init else model,
        model_init=make if options.model_init else None,
        args=TrainingArguments(
            output_dir=options.output_dir,
            max_steps=options.steps,
            save_steps=options.save_steps,
            save_total_limit=options.limit,
            save_only_model=options.weights_only,
            learning_rate=options.learning_rate,
            per_device_train_batch_size=4,
            logging_steps=1,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        callbacks=callbacks,
    )
    try:
        if options.resume_from is None:
            trainer.train()
        else:
            words = {"true": True, "false": False}
            trainer.train(words.get(options.resume_from, options.resume_from))
        if options.twice:
            trainer.train()
        if options.move:
            first = Path(options.output_dir) / f"checkpoint-{options.save_steps}"
            first.rename(first.with_name(options.move))
    finally:
        kinds = [
            type(each).__name__
            for each in trainer.callback_handler.callbacks
            if "mountkit" in type(each).__module__
        ]
        told = {"began_at": notes.began_at, "losses": notes.losses, "callbacks": kinds}
        told["mountkit"] = sorted(name for name in sys.modules if name.startswith("mountkit."))
        told["limit"] = trainer.args.save_total_limit
        options.report.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
