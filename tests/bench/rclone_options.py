"""What rclone's options are worth for a large sequential save: each against mountkit's own choice.

    python tests/bench/rclone_options.py [--size MIB] [--pairs N] [--json FILE]

Both sides of a pair run one after the other on the same machine, against an S3 server in the same
rclone on loopback, and only their ratio is printed (median of the pairs; below 1 the variant is
faster). "write" is what a training would be stalled for; "proof" ends with the manifest in the
store.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mountkit import backends
from mountkit.demo.s3_server import EmbeddedS3

BUCKET = "bench"
VARIANTS = {
    "s3-chunk-size=5Mi": ["s3-chunk-size=5Mi"],
    "s3-chunk-size=64Mi": ["s3-chunk-size=64Mi"],
    "s3-upload-concurrency=2": ["s3-upload-concurrency=2"],
    "s3-upload-concurrency=8": ["s3-upload-concurrency=8"],
    "transfers=2": ["transfers=2"],
    "transfers=8": ["transfers=8"],
    "transfers=8, s3-chunk-size=64Mi": ["transfers=8", "s3-chunk-size=64Mi"],
    "use-mmap=false": ["use-mmap=false"],
    "s3-disable-checksum=false": ["s3-disable-checksum=false"],
    "ignore-checksum=false": ["ignore-checksum=false"],
    "vfs-write-back=5s": ["vfs-write-back=5s"],
    "vfs-fast-fingerprint=true": ["vfs-fast-fingerprint=true"],
}

# Two large files and a few small ones, as a checkpoint has them.
WRITER = """
import json, os, sys, time
target, size = sys.argv[1], int(sys.argv[2]) << 20
block = os.urandom(1 << 20)
os.mkdir(target + "/checkpoint-1")
began = time.monotonic()
for name, share in (("model.safetensors", 3), ("optimizer.pt", 6)):
    with open(target + "/checkpoint-1/" + name, "wb") as stream:
        for _ in range((size * share // 9) >> 20):
            stream.write(block)
for name in ("config.json", "scheduler.pt", "rng_state.pth", "training_args.bin"):
    with open(target + "/checkpoint-1/" + name, "wb") as stream:
        stream.write(block[:5000])
with open(target + "/checkpoint-1/trainer_state.json", "w") as stream:
    json.dump({"global_step": 1}, stream)
print(time.monotonic() - began)
"""


def save(server: EmbeddedS3, scratch: Path, size: int, options: list[str]) -> tuple[float, float]:
    """Seconds of one save: to write it, and to have it proven."""
    run = f"run-{time.time_ns()}"
    target = scratch / run
    words = [sys.executable, "-m", "mountkit", "run", f"s3://{BUCKET}/{run}", str(target)]
    words += ["--backend", "rclone"]
    for option in options:
        words += ["--option", option]
    words += ["--", sys.executable, "-c", WRITER, str(target), str(size)]
    env = {
        **os.environ,
        **server.environment(),
        "MOUNTKIT_STATE_DIR": str(scratch / "s"),
        "MOUNTKIT_CACHE_DIR": str(scratch / "c"),
    }
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        sys.exit(done.stderr)
    # The drain proves a checkpoint by the manifest's own time; its start is the script's end.
    written = float(done.stdout)
    proven = next((line for line in done.stderr.splitlines() if "checkpoint-1 proven" in line), "")
    if not proven:
        sys.exit(f"The save was not proven:\n{done.stderr}")
    seconds = float(proven.rpartition(", ")[2].split()[0])
    subprocess.run(["rm", "-rf", str(server.data / BUCKET / run)], check=True)
    return written, written + seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=900, help="MiB a save")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS))
    arguments = parser.parse_args()
    binary = backends.load("rclone").binary(os.environ.get("PATH", "")).path
    rows = {}
    with (
        tempfile.TemporaryDirectory(prefix="mkb-") as name,
        EmbeddedS3(buckets=[BUCKET], binary=binary) as server,
    ):
        scratch = Path(name)
        save(server, scratch, 50, [])
        for variant in arguments.variants or list(VARIANTS):
            ratios = []
            for _ in range(arguments.pairs):
                ours = save(server, scratch, arguments.size, [])
                theirs = save(server, scratch, arguments.size, VARIANTS[variant])
                ratios.append((theirs[0] / ours[0], theirs[1] / ours[1], *ours))
            write, proof, seconds, total = (
                statistics.median(column) for column in zip(*ratios, strict=True)
            )
            rows[variant] = {"write": write, "proof": proof, "ours": [seconds, total]}
            print(
                f"{variant:28} write x{write:.2f}  proof x{proof:.2f}  "
                f"(ours: {seconds:.2f} s, {total:.2f} s for {arguments.size} MiB)",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
