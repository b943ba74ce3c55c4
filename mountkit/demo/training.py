"""The training script of the demo: a small GPT-2 learns Python from the standard library's sources.

It is started by ``mountkit run`` as ``python -m mountkit.demo.training``, once for each life of the
job, and says what happens as JSON, a line an event. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import mountkit
from mountkit import events
from mountkit.timing import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import GPT2LMHeadModel, TrainerCallback

TEXT_BYTES = 1 << 20
BLOCK = 128
BATCH = 4
SEED = 7
PAUSE_SECONDS = 300.0


class TrainingLog:
    """What happened, for the process that watches: JSON lines, written by several threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._changed = threading.Condition()
        self._proven: set[int] = set()

    def write(self, event: str, **fields: object) -> None:
        """Append one line."""
        with self._changed:
            self._stream.write(json.dumps({"event": event, **fields}, default=str) + "\n")
            self._stream.flush()

    def observe(self, event: events.Event) -> None:
        """Write down an event of the checkpoint callback."""
        self.write(**events.to_json(event))
        if isinstance(event, events.CheckpointProven):
            with self._changed:
                self._proven.add(event.step)
                self._changed.notify_all()

    def wait_for_proof(self, step: int, timeout: float) -> None:
        """Wait until the checkpoint of ``step`` is proven.

        Raises TimeoutError if it is not, after ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: step in self._proven, timeout):
                raise TimeoutError(f"checkpoint-{step} was not proven within {timeout:.0f} s.")


def read_text(limit: int) -> bytes:
    """Read at most ``limit`` bytes of the standard library's sources, always the same ones."""
    text = bytearray()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text += path.read_bytes()
        if len(text) >= limit:
            break
    return bytes(text[:limit])


def make_dataset(text: bytes) -> list[dict[str, Any]]:
    """Cut the text into blocks; every byte is a token."""
    import torch

    tokens = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    return [{"input_ids": block, "labels": block} for block in tokens.split(BLOCK)[:-1]]


def make_model() -> GPT2LMHeadModel:
    """Make an untrained GPT-2 over bytes, of about 5 million parameters."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=256,
        n_positions=BLOCK,
        n_embd=256,
        n_layer=6,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def digests(directory: Path) -> dict[str, str]:
    """Take the SHA-256 of every file below a directory, by its path relative to it."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def make_narrator(journal: TrainingLog, pauses: Sequence[int], gates: Path) -> TrainerCallback:
    """Make the callback that tells of steps and saves, and pauses where it is told to."""
    from transformers import TrainerCallback

    class Narrator(TrainerCallback):  # type: ignore[misc]
        """Writes the journal. A pause lasts until the file ``go-<step>`` is there."""

        def __init__(self) -> None:
            self.saved = 0

        def on_train_begin(self, _args: Any, state: Any, *_: Any, **_named: Any) -> None:
            journal.write("begin", step=state.global_step, steps=state.max_steps)

        def on_log(self, _args: Any, state: Any, *_: Any, logs: Any, **_named: Any) -> None:
            if "loss" in logs:
                journal.write("loss", step=state.global_step, loss=float(logs["loss"]))

        def on_save(self, args: Any, state: Any, *_: Any, **_named: Any) -> None:
            self.saved = state.global_step
            written = digests(Path(args.output_dir) / f"checkpoint-{self.saved}")
            journal.write("written", step=self.saved, sha256=written)

        def on_step_end(self, _args: Any, state: Any, *_: Any, **_named: Any) -> None:
            if state.global_step not in pauses:
                return
            journal.wait_for_proof(self.saved, PAUSE_SECONDS)
            journal.write("pause", step=state.global_step, saved=self.saved)
            gate = gates / f"go-{state.global_step}"
            if not wait_until(gate.exists, PAUSE_SECONDS, 0.02):
                raise TimeoutError(f"Nobody ended the pause at step {state.global_step}.")

    return Narrator()


def train(options: argparse.Namespace, journal: TrainingLog) -> None:
    """Train from the newest proven checkpoint, or from scratch where there is none."""
    import torch
    from transformers import Trainer, TrainingArguments, set_seed

    # A second thread gains little on so small a model, and loses tenfold where the cores are busy
    # with something else, such as the proof.
    torch.set_num_threads(1)
    set_seed(SEED)
    model = make_model()
    newest = mountkit.latest_checkpoint(options.output_dir)
    journal.write("model", parameters=model.num_parameters(), checkpoint=newest)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=options.output_dir,
            max_steps=options.steps,
            save_steps=options.save_steps,
            per_device_train_batch_size=BATCH,
            learning_rate=1e-3,
            logging_steps=1,
            seed=SEED,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=make_dataset(read_text(TEXT_BYTES)),
        callbacks=[
            mountkit.CheckpointCallback(on_event=journal.observe),
            make_narrator(journal, options.pause_at, options.gates),
        ],
    )
    trainer.train(resume_from_checkpoint=newest)
    journal.write("end", step=trainer.state.global_step)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m mountkit.demo.training", description=__doc__)
    parser.add_argument("output_dir")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--save-steps", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True, help="where the JSON lines go")
    parser.add_argument("--gates", type=Path, required=True, help="where go-<step> appears")
    parser.add_argument("--pause-at", type=int, action="append", default=[], help="a step")
    options = parser.parse_args(argv)
    with options.journal.open("a") as stream:
        train(options, TrainingLog(stream))


if __name__ == "__main__":
    main()
