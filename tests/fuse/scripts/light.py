"""A training script without the training: it writes checkpoints through plain file I/O.

``python light.py OUTPUT_DIR GATES ACTION...``, where an action is one of

save:STEP[:BYTES]   write checkpoint-STEP, all of it
torn:STEP           the same, ending before trainer_state.json
many:STEP:COUNT     write checkpoint-STEP with that many small files
name:STEP:HEX       write checkpoint-STEP with one file of that name, given in hexadecimal
model:NAME          write NAME/model.safetensors, as a final trainer.save_model() does
say:NAME            make the file NAME in GATES
wait:NAME           wait until the file NAME is in GATES
signal:NUMBER       end by that signal
exit:CODE           end with that code
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

WAIT_SECONDS = 90.0
STRANGE_NAMES = (
    "sub folder/deep er/adapter model.safetensors",
    "ünï-日本語-🙂.json",
    "a&b <c> #1?x=y%41+.txt",
    "tilde~",
)


PIECE = 64 << 20


def noise(step: int, name: str, size: int) -> bytes:
    """Bytes that nobody can compress, the same for the same step and name."""
    generator = random.Random(f"{step}/{name}")
    # randbytes cannot make 256 MiB or more at once.
    pieces = (min(PIECE, size - start) for start in range(0, size, PIECE))
    return b"".join(generator.randbytes(piece) for piece in pieces)


def safetensors(step: int, size: int) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + noise(step, "model", size)


def trainer_state(step: int) -> bytes:
    return json.dumps({"global_step": step, "epoch": step / 10, "log_history": []}).encode()


def checkpoint(step: int, size: int = 50_000) -> dict[str, bytes]:
    """The files of a checkpoint, in the order in which they are written."""
    files = {"config.json": b'{"model_type": "gpt2"}', "model.safetensors": safetensors(step, size)}
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        files[name] = noise(step, name, 3_000)
    for name in STRANGE_NAMES:
        files[name] = noise(step, name, 500)
    return {**files, "empty.bin": b"", "trainer_state.json": trainer_state(step)}


def many(step: int, count: int) -> dict[str, bytes]:
    """A checkpoint of many small files in sub-folders."""
    names = [f"shard-{number % 20:02}/part-{number:05}.bin" for number in range(count)]
    files = {name: noise(step, name, 200) for name in names}
    return {**files, "trainer_state.json": trainer_state(step)}


def named(step: int, name: str) -> dict[str, bytes]:
    """A checkpoint of one file with that name."""
    return {name: noise(step, "named", 500), "trainer_state.json": trainer_state(step)}


def write(directory: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Nobody made {path}.")
        time.sleep(0.02)


def act(output: Path, gates: Path, action: str) -> None:
    kind, *words = action.split(":")
    if kind == "save":
        step, *size = map(int, words)
        write(output / f"checkpoint-{step}", checkpoint(step, *size))
    elif kind == "torn":
        files = checkpoint(int(words[0]))
        del files["trainer_state.json"]
        write(output / f"checkpoint-{words[0]}", files)
    elif kind == "many":
        write(output / f"checkpoint-{words[0]}", many(int(words[0]), int(words[1])))
    elif kind == "name":
        name = os.fsdecode(bytes.fromhex(words[1]))
        write(output / f"checkpoint-{words[0]}", named(int(words[0]), name))
    elif kind == "model":
        write(output / words[0], {"model.safetensors": safetensors(0, 20_000)})
    elif kind == "say":
        (gates / words[0]).touch()
    elif kind == "wait":
        wait_for(gates / words[0])
    elif kind == "signal":
        os.kill(os.getpid(), int(words[0]))
    elif kind == "exit":
        sys.exit(int(words[0]))
    else:
        raise ValueError(action)


def main() -> None:
    output, gates, *actions = sys.argv[1:]
    (Path(gates) / "started").touch()
    for action in actions:
        act(Path(output), Path(gates), action)


if __name__ == "__main__":
    main()
