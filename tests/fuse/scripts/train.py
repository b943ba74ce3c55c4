"""A real Trainer on a GPT-2 of one layer, as a user would write it, with pauses for the test."""

from __future__ import annotations

import argparse
import functools
import json
import logging
import shutil
import sys
import threading
import time
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
from transformers.trainer_jit_checkpoint import CheckpointManager

import mountkit
from mountkit.events import CheckpointProven, ProofStarted

PATIENCE_SECONDS = 2.0


class Watcher(TrainerCallback):
    """Copies every save to the local disk, notes what happened, and pauses where it is told to."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.began_at = -1
        self.ended_at = -1
        self.saved: list[int] = []
        self.proven: dict[int, int] = {}
        self.seconds: dict[int, float] = {}
        self.written: list[int] = []
        # Set to let the proof of that step go on.
        self.held = threading.Event()

    def on_train_begin(self, args, state, control, **_):
        self.began_at = state.global_step

    def on_save(self, args, state, control, **_):
        if not state.is_world_process_zero:
            return
        name = f"checkpoint-{state.global_step}"
        self.saved.append(state.global_step)
        shutil.copytree(Path(args.output_dir) / name, self.options.reference / name)
        # This callback comes first: the save is written, and nobody has begun to prove it.
        if state.global_step in self.options.pause_at_save:
            self.pause("saved", state.global_step)

    def see(self, event: object) -> None:
        if isinstance(event, ProofStarted) and event.step == self.options.save_again_at_once:
            assert self.held.wait(60)
        if isinstance(event, CheckpointProven):
            self.proven[event.step] = event.files
            self.seconds[event.step] = event.seconds

    def pause(self, where: str, step: int) -> None:
        (self.options.gates / f"{where}-{step}").touch()
        wait_for(self.options.gates / f"go-{where}-{step}")

    def on_step_end(self, args, state, control, **_):
        self.ended_at = state.global_step
        if state.global_step in self.options.pause_at:
            self.pause("at", state.global_step)


class Late(TrainerCallback):
    """Asks for a save after mountkit's callback has looked whether there will be one."""

    def __init__(self, steps: list[int]) -> None:
        self.steps = steps

    def on_step_end(self, args, state, control, **_):
        control.should_save = control.should_save or state.global_step in self.steps


class Adapter(TrainerCallback):
    """Adds a file to every checkpoint after mountkit's callback has had its turn, as PEFT's do."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher

    def on_save(self, args, state, control, **_):
        # It takes its time: a proof that had begun by now would be over when the file comes.
        enough = time.monotonic() + PATIENCE_SECONDS
        while state.global_step not in self.watcher.proven and time.monotonic() < enough:
            time.sleep(0.05)
        top = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        # Larger at every step, so that no two are the same.
        (top / "adapter_model.bin").write_bytes(b"adapter" * 1000 * state.global_step)


class Again(TrainerCallback):
    """Saves a step once more, as transformers does on SIGTERM: when it is proven, or at once."""

    def __init__(self, options: argparse.Namespace, watcher: Watcher) -> None:
        self.at_once = options.save_again_at_once
        self.step = max(options.save_again, self.at_once)
        self.watcher = watcher
        self.trainer: Trainer | None = None
        self.newest: str | None = None

    def on_step_begin(self, args, state, control, **_):
        if state.global_step != self.step:
            return
        limit = time.monotonic() + 60
        while self.step not in self.watcher.proven and self.step != self.at_once:
            assert time.monotonic() < limit
            time.sleep(0.05)
        # The proof goes on while this save begins.
        threading.Timer(PATIENCE_SECONDS, self.watcher.held.set).start()
        CheckpointManager(self.trainer).execute_jit_checkpoint()
        self.newest = mountkit.latest_checkpoint(args.output_dir)


class OwnLoop(Trainer):
    """Saves without what transformers does around it, as a Trainer of somebody's own may."""

    def _maybe_log_save_evaluate(self, tr_loss, grad_norm, model, trial, *_, **__):
        if self.control.should_save:
            self._save_checkpoint(model, trial)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)


class Card:
    """Writes beside the checkpoint before it is saved, as TRL's Trainers do."""

    def _save_checkpoint(self, model, trial):
        Path(self.args.output_dir, "README.md").write_text("a model card")
        super()._save_checkpoint(model, trial)


class Entropy(Card, Trainer):
    """Adds a file to a checkpoint that is saved, as TRL's GRPOTrainer does."""

    def _save_checkpoint(self, model, trial):
        super()._save_checkpoint(model, trial)
        step = self.state.global_step
        top = Path(self.args.output_dir) / f"checkpoint-{step}"
        (top / "entropy_ctrl_state.json").write_text(json.dumps({"entropy_coef": step}))


def trainer_class(options: argparse.Namespace) -> type[Trainer]:
    if options.overriding:
        return Entropy
    return OwnLoop if options.own_loop else Trainer


def shard_on_cpu() -> None:
    """Have accelerate do for a CPU what it does for every other device; torch shards on both."""
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    begin = AcceleratorState.__init__

    def init(self, *arguments, fsdp_plugin=None, **more):
        begin(self, *arguments, fsdp_plugin=fsdp_plugin, **more)
        # Each further look at the state sets the type anew.
        plugin = fsdp_plugin or self.__dict__.get("fsdp_plugin")
        if plugin is not None:
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = plugin

    AcceleratorState.__init__ = init


def compile_nothing() -> None:
    """Have DeepSpeed reduce by torch alone: what it compiles for CPUs only makes that faster."""
    import deepspeed

    deepspeed.ops.__compatible_ops__ = {}


def sharding(options: argparse.Namespace) -> dict[str, object]:
    """The arguments by which the ranks share one model."""
    if options.fsdp:
        kind = f"{options.fsdp}_STATE_DICT"
        return {"fsdp": True, "fsdp_config": {"state_dict_type": kind}}
    if options.zero:
        # Its own Adam is built by a compiler, which a machine need not have.
        settings = {
            "zero_optimization": {"stage": options.zero},
            "train_micro_batch_size_per_gpu": "auto",
            "zero_allow_untested_optimizer": True,
        }
        return {"deepspeed": settings}
    return {}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output_dir")
    parser.add_argument("gates", type=Path)
    parser.add_argument("reference", type=Path, help="where each save is copied to")
    parser.add_argument("report", type=Path, help="the JSON file to write at the end")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--save-steps", type=int, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--save-late", type=int, action="append", default=[])
    parser.add_argument("--pause-at", type=int, action="append", default=[])
    parser.add_argument("--pause-at-save", type=int, action="append", default=[])
    parser.add_argument("--pause-in-save", type=int, action="append", default=[])
    parser.add_argument("--save-again", type=int, default=-1)
    parser.add_argument("--save-again-at-once", type=int, default=-1)
    parser.add_argument("--adapter", action="store_true", help="of a callback after mountkit's")
    parser.add_argument("--own-loop", action="store_true", help="a Trainer that saves by itself")
    parser.add_argument("--overriding", action="store_true", help="one that saves more")
    parser.add_argument("--resume-from", type=int, help="that step, and not the newest")
    parser.add_argument("--epochs", action="store_true", help="save at the end of each instead")
    parser.add_argument("--callback", choices=["raise", "warn", "none"], default="raise")
    parser.add_argument("--final-model", help="save_model() to this folder, after the training")
    parser.add_argument("--shard", help="the largest that a file of the weights may be")
    parser.add_argument("--logs", action="store_true", help="to TensorBoard, and kept by mountkit")
    parser.add_argument("--jit", action="store_true", help="save on SIGTERM")
    parser.add_argument("--fsdp", choices=["SHARDED", "FULL"], help="FSDP, with such a state")
    parser.add_argument("--zero", type=int, choices=[2, 3], help="DeepSpeed, with that stage")
    parser.add_argument("--best", action="store_true", help="evaluate, and keep the best")
    parser.add_argument("--fresh", action="store_true", help="do not look for a checkpoint")
    options = parser.parse_args()

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    torch.set_num_threads(1)
    set_seed(1)
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(0, 64, (64, 16), generator=generator)
    if options.fsdp:
        shard_on_cpu()
    if options.zero:
        compile_nothing()
    watcher = Watcher(options)
    callbacks: list[TrainerCallback] = [watcher]
    if options.callback != "none":
        callbacks.append(
            mountkit.CheckpointCallback(on_failure=options.callback, on_event=watcher.see)
        )
    callbacks.append(Late(options.save_late))
    again = Again(options, watcher)
    callbacks.append(again)
    if options.adapter:
        callbacks.append(Adapter(watcher))
    trainer = trainer_class(options)(
        model=GPT2LMHeadModel(
            GPT2Config(
                vocab_size=64,
                n_positions=16,
                n_embd=32,
                n_layer=1,
                n_head=2,
                bos_token_id=0,
                eos_token_id=0,
            )
        ),
        args=TrainingArguments(
            output_dir=options.output_dir,
            max_steps=options.steps,
            save_strategy="epoch" if options.epochs else "steps",
            save_steps=options.save_steps,
            save_total_limit=options.limit,
            per_device_train_batch_size=4,
            logging_steps=1,
            enable_jit_checkpoint=options.jit,
            **sharding(options),
            **(
                {
                    "eval_strategy": "steps",
                    "eval_steps": options.save_steps,
                    "load_best_model_at_end": True,
                }
                if options.best
                else {}
            ),
            use_cpu=True,
            report_to="tensorboard" if options.logs else "none",
            disable_tqdm=True,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        eval_dataset=[{"input_ids": row, "labels": row} for row in rows[:8]],
        callbacks=callbacks,
    )
    if options.logs:
        # As somebody would who has the Trainer only when it is made.
        trainer.add_callback(mountkit.RunLogCallback())
    # Between the weights and the optimizer: the first time only, for a save may be repeated.
    save_optimizer = trainer._save_optimizer_and_scheduler

    def save_later(output_dir: str) -> None:
        step = trainer.state.global_step
        if step in options.pause_in_save:
            options.pause_in_save.remove(step)
            watcher.pause("in", step)
        watcher.written.append(step)
        save_optimizer(output_dir)

    trainer._save_optimizer_and_scheduler = save_later
    again.trainer = trainer
    for one in trainer.callback_handler.callbacks:
        if getattr(one, "jit_manager", None) is not None:
            one.jit_manager.kill_wait = 0.1
    if options.shard:
        # Trainer has no setting for it, and saves with what the model does by default.
        model = trainer.model
        model.save_pretrained = functools.partial(
            model.save_pretrained, max_shard_size=options.shard
        )
    newest = None if options.fresh else mountkit.latest_checkpoint(options.output_dir)
    if options.resume_from is not None:
        newest = str(Path(options.output_dir) / f"checkpoint-{options.resume_from}")
    try:
        trainer.train(resume_from_checkpoint=newest)
        if options.final_model:
            trainer.save_model(str(Path(options.output_dir) / options.final_model))
    finally:
        content = {
            "resumed_from": newest,
            "began_at": watcher.began_at,
            "ended_at": watcher.ended_at,
            "saved": watcher.saved,
            "written": watcher.written,
            "proven": watcher.proven,
            "seconds": watcher.seconds,
            "newest_after_again": again.newest,
            "losses": {
                line["step"]: line["loss"] for line in trainer.state.log_history if "loss" in line
            },
        }
        if trainer.is_world_process_zero():
            options.report.write_text(json.dumps(content))


if __name__ == "__main__":
    main()
