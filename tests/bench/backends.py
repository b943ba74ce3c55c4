"""Both backends on the same store: how long a save blocks, and how long until it is proven.

    python tests/bench/backends.py [--size MIB] [--pairs N] [--json FILE]

Each round saves the same bytes to a plain directory on the local disk (with fsync), to an rclone
mount and to a Mountpoint mount, one after the other; ratios are to the local disk of the same
round, and medians are printed. The store is versitygw on loopback, which both can use.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stage import BUCKET, stage

import mountkit
from mountkit.config import settings, timeouts
from mountkit.proof.committer import Prover
from support.rig import MOUNTING

MIB = 1024 * 1024


def write(folder: Path, size: int, *, sync: bool) -> float:
    """A checkpoint of one large file and two small ones; seconds until the last is closed."""
    block = os.urandom(8 * MIB)
    folder.mkdir()
    began = time.monotonic()
    for name, length in (("model.safetensors", size), ("config.json", 900)):
        with (folder / name).open("wb", buffering=0) as stream:
            for start in range(0, length, len(block)):
                stream.write(block[: length - start])
            if sync:
                os.fsync(stream.fileno())
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 1}))
    return time.monotonic() - began


def round_of(number: int, size: int, scratch: Path) -> dict[str, tuple[float, float]]:
    """Seconds of a save, and until it is proven, by place."""
    taken = {}
    seconds = write(scratch / f"local-{number}", size, sync=True)
    shutil.rmtree(scratch / f"local-{number}")
    taken["local"] = (seconds, seconds)
    limits = timeouts.limits(settings.load())
    for backend in MOUNTING:
        target = scratch / f"mnt-{backend}-{number}"
        source = f"s3://{BUCKET}/{backend}-{number}"
        with mountkit.mount(source, target, backend=backend) as mount:
            prover = Prover(mount, "", limits, lambda _: None)
            prover.begin("checkpoint-1")
            began = time.monotonic()
            # Mountpoint's close waits for the upload; rclone's fsync does nothing.
            seconds = write(Path(mount.path) / "checkpoint-1", size, sync=False)
            names = ["model.safetensors", "config.json", "trainer_state.json"]
            prover.prove("checkpoint-1", 1, names, began=began)
            taken[backend] = (seconds, time.monotonic() - began)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="MiB a save")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with stage() as there:
        rounds = [
            round_of(number, arguments.size * MIB, there.scratch)
            for number in range(arguments.pairs)
        ]
    rows = {}
    for place in ("local", *MOUNTING):
        save, proof = (
            statistics.median(one[place][column] for one in rounds) for column in range(2)
        )
        ratios = [
            statistics.median(one[place][column] / one["local"][0] for one in rounds)
            for column in range(2)
        ]
        rows[place] = {
            "save": save,
            "proof": proof,
            "save_ratio": ratios[0],
            "proof_ratio": ratios[1],
        }
        print(
            f"{place:10}  save {save:.2f} s (x{ratios[0]:.2f})  "
            f"proven after {proof:.2f} s (x{ratios[1]:.2f})  {arguments.size} MiB"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
