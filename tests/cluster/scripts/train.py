"""A Trainer as a user would write it, on a GPT-2 of one layer. Nothing of mountkit is in it."""

from __future__ import annotations

import argparse
import time

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)


class Slow(TrainerCallback):
    """Steps of a model that is small take no time, and a job would be over before it is evicted."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_step_end(self, args, state, control, **_):
        time.sleep(self.seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--save-steps", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5, help="how long a step takes")
    options = parser.parse_args()

    torch.set_num_threads(1)
    set_seed(1)
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(0, 64, (64, 16), generator=generator)
    sizes = {"vocab_size": 64, "n_positions": 16, "n_embd": 32, "n_layer": 1, "n_head": 2}
    trainer = Trainer(
        model=GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)),
        args=TrainingArguments(
            output_dir=options.output_dir,
            max_steps=options.steps,
            save_steps=options.save_steps,
            per_device_train_batch_size=4,
            logging_steps=1,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        callbacks=[Slow(options.seconds)],
    )
    trainer.train()


if __name__ == "__main__":
    main()
