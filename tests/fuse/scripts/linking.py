"""A small Trainer that makes links while it saves.

``python linking.py RUN kept`` trains into RUN/current, a link to RUN/run-3, with a link in each
checkpoint and one that says which is the latest, and resumes through that. ``python linking.py RUN
symlink`` or ``link`` makes such a one in the first save, into RUN itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

import mountkit


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, rows: Any, labels: Any = None) -> dict[str, Any]:
        return {"loss": ((self.layer(rows).squeeze() - labels) ** 2).mean()}


class Latest(TrainerCallback):
    """Points a link to the newest checkpoint, in one step."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        top = Path(args.output_dir)
        draft = top / ".latest"
        draft.symlink_to(f"checkpoint-{state.global_step}")
        draft.replace(top / "latest")


def train(
    output_dir: Path, steps: int, make: Any, resume: Path | None = None, late: Any = ()
) -> int:
    trainer = Trainer(
        model=Model(),
        args=TrainingArguments(
            output_dir=str(output_dir),
            max_steps=steps,
            save_steps=2,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=[{"rows": torch.rand(4), "labels": torch.rand(())} for _ in range(16)],
        callbacks=[mountkit.CheckpointCallback(), *late],
    )
    save_optimizer = trainer._save_optimizer_and_scheduler

    def save_with_a_link(folder: str) -> None:
        print("saving", folder, flush=True)
        make("model.safetensors", f"{folder}/weights")
        save_optimizer(folder)

    trainer._save_optimizer_and_scheduler = save_with_a_link
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return int(trainer.state.global_step)


def main() -> None:
    top, what = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    if what == "symlink":
        train(top, 2, os.symlink)
    elif what == "link":
        train(top, 2, lambda name, link: os.link(f"{Path(link).parent}/{name}", link))
    else:
        (top / "run-3").mkdir()
        current = top / "current"
        current.symlink_to("run-3")
        train(current, 4, os.symlink, late=[Latest()])
        assert (current / "latest").readlink() == Path("checkpoint-4")
        assert mountkit.latest_checkpoint(current) == str(top / "run-3" / "checkpoint-4")
        assert mountkit.verify_checkpoint(current / "latest").ok
        train(current, 6, os.symlink, resume=current / "latest", late=[Latest()])
        assert (current / "latest").readlink() == Path("checkpoint-6")


if __name__ == "__main__":
    main()
