"""Whether torch can use each GPU here: a matrix product on it, compared with the CPU's.

    docker run --rm -i --gpus all IMAGE python - < docker/gpu_check.py

Ends with 0 if each GPU computes what the CPU does, 1 if one does not, 3 if torch sees none.
"""

# ruff: noqa: INP001 - a script, no package

from __future__ import annotations

import sys
import time

import torch

SIZE = 4096
ROUNDS = 20
# bfloat16 keeps eight bits of each factor; sums of 4096 such products differ by less than this.
TOLERANCE = 2e-2


def check(index: int) -> bool:
    """Multiply two matrices on a GPU and on the CPU, and print how they compare."""
    device = torch.device("cuda", index)
    torch.manual_seed(index)
    left, right = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    expected = left.bfloat16().float() @ right.bfloat16().float()
    left, right = left.to(device, torch.bfloat16), right.to(device, torch.bfloat16)
    got = left @ right
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    for _ in range(ROUNDS):
        left @ right
    torch.cuda.synchronize(device)
    rate = 2 * SIZE**3 * ROUNDS / (time.perf_counter() - began) / 1e12
    error = ((got.float().cpu() - expected).norm() / expected.norm()).item()
    name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    good = error < TOLERANCE
    print(
        f"{name} (compute {capability[0]}.{capability[1]}): {SIZE}x{SIZE} in bfloat16 "
        f"{'agrees with' if good else 'DIFFERS FROM'} the CPU by {error:.1e}, {rate:.0f} TFLOP/s"
    )
    return good


def main() -> int:
    """Check every GPU; the exit code."""
    built = torch.version.cuda
    if not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no GPU; it is built for CUDA {built or '(none)'}")
        return 3
    good = [check(index) for index in range(torch.cuda.device_count())]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
