"""What the sequential writers cost: each against the library's own way, in one directory.

    python tests/bench/writers.py [--size MIB] [--pairs N] [--directory DIR] [--json FILE]

The sides of a pair run one after the other on the same machine and the same disk, and only their
ratio is printed (median of the pairs; below 1 mountkit's writer is faster). The writers return when
the file is on the disk, the libraries do not: "fsync" compares with the library and an fsync(2)
after it, "plain" with the library alone. On a tmpfs both are the same, and show the writers' own
cost with the checksum. What a mount costs is not in here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
import torch

from mountkit.writers.hooks import Hooks, Place

if TYPE_CHECKING:
    from collections.abc import Callable

LAYERS = 24


def model(size: int) -> dict[str, torch.Tensor]:
    """A model of ``size`` MiB: a few large tensors and many small ones, as real ones have."""
    tensors = {"embedding": torch.randn((size << 20) // 4 // 4)}
    rest = (size << 20) // 4 * 3 // 4 // LAYERS
    for layer in range(LAYERS):
        tensors[f"layers.{layer}.mlp"] = torch.randn(rest * 2 // 3)
        tensors[f"layers.{layer}.attention"] = torch.randn(rest // 3)
        for name in ("bias", "norm", "scale"):
            tensors[f"layers.{layer}.{name}"] = torch.randn(768)
    return tensors


def seconds(save: Callable[[Path], None], path: Path, *, sync: bool) -> float:
    """How long one save takes, into a file that is new."""
    path.unlink(missing_ok=True)
    # What the last one left for the disk is not to be waited for in this one.
    os.sync()
    began = time.perf_counter()
    save(path)
    if sync:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=200, help="MiB a save")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    tensors = model(arguments.size)
    saves: dict[str, Callable[[Path], None]] = {
        "safetensors": lambda path: safetensors.torch.save_file(tensors, path),
        "torch.save": lambda path: torch.save(tensors, path),
        "torch.save, legacy": lambda path: torch.save(
            tensors, path, _use_new_zipfile_serialization=False
        ),
    }
    rows = {}
    with tempfile.TemporaryDirectory(prefix="mkb-", dir=arguments.directory) as name:
        root = Path(os.path.realpath(name))
        place = Place(str(root), root, lambda: True)
        hooks = Hooks()
        for kind, save in saves.items():
            taken: dict[str, list[float]] = {"ours": [], "fsync": [], "plain": []}
            for turn in range(arguments.pairs + 1):
                hooks.add(place)
                ours = seconds(save, root / "file", sync=False)
                hooks.remove(place.path)
                fsync = seconds(save, root / "file", sync=True)
                plain = seconds(save, root / "file", sync=False)
                if turn:
                    for column, value in (("ours", ours), ("fsync", fsync), ("plain", plain)):
                        taken[column].append(value)
            ratios = {
                other: statistics.median(
                    ours / theirs for ours, theirs in zip(taken["ours"], taken[other], strict=True)
                )
                for other in ("fsync", "plain")
            }
            middle = statistics.median(taken["ours"])
            rows[kind] = {**ratios, "ours": middle}
            print(
                f"{kind:20} fsync x{ratios['fsync']:.2f}  plain x{ratios['plain']:.2f}  "
                f"(ours: {middle:.3f} s for {arguments.size} MiB)",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
