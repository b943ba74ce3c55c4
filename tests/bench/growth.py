"""How a proof grows: with the number of a checkpoint's files, and with the size of one.

    python tests/bench/growth.py [--files N ...] [--size MB ...] [--pairs N] [--backend NAME ...]
        [--directory DIR] [--json FILE] [--svg FILE]

A process of its own writes a checkpoint into a mount, of N files of 4 KiB or of one large one, into
versitygw on loopback; then it is proven. "saved" and "proven" are seconds from the start of the
save, "requests" what the store noted, and "memory" the most that the proving process and the daemon
had. "CPU" are the seconds that these two used, the writer's and the store's left out; of one large
file also as the cores that 100 MB/s take. Medians of ``--pairs``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stage import BUCKET, stage

import mountkit
from mountkit.config import settings, timeouts
from mountkit.proof.committer import Prover
from support.rig import MOUNTING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SMALL = 4096
MB = 1_000_000
MIB = 1024 * 1024
LIMIT_SECONDS = 3600
CHECKPOINT = "checkpoint-1"
# versitygw notes each part in an attribute of the object, for which ext4 has 4 KiB: with some 900
# parts and more it answers "InsufficientStorage", whatever room there is.
LARGE_PARTS = {"rclone": {"s3-chunk-size": "64Mi"}}
LARGEST_FILE = "600GiB"
LARGE = 8000 * MB


@dataclass(frozen=True)
class Row:
    """What one checkpoint took: seconds, bytes and counts."""

    backend: str
    files: int
    size: int
    saved: float
    proven: float
    cpu: float
    daemon_cpu: float
    memory: int
    daemon_memory: int
    requests: int

    @property
    def cores(self) -> float:
        """Cores that are in use while 100 MB/s are uploaded and proven."""
        return (self.cpu + self.daemon_cpu) / (self.files * self.size) * 100 * MB


def write(folder: Path, files: int, size: int) -> None:
    """A checkpoint, in the order in which Trainer writes one."""
    folder.mkdir()
    block = os.urandom(min(size, 8 * MIB))
    for number in range(files):
        with (folder / f"shard-{number:05}.bin").open("wb", buffering=0) as stream:
            for start in range(0, size, len(block)):
                stream.write(block[: size - start])
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 1}))


def prove(backend: str, source: str, target: Path, files: int, size: int) -> Row:
    """Mount, have it written, prove it."""
    limits = timeouts.limits(settings.load())
    options = LARGE_PARTS.get(backend) if size > LARGE else None
    if size > LARGE:
        os.environ["MOUNTKIT_LARGEST_FILE"] = LARGEST_FILE
    with mountkit.mount(source, target, backend=backend, options=options) as mount:
        record = mount.last_record()
        assert record is not None
        assert record.daemon is not None
        daemon = psutil.Process(record.daemon.pid)
        prover = Prover(mount, "", limits, lambda _: None)
        prover.begin(CHECKPOINT)
        own, theirs = time.process_time(), sum(daemon.cpu_times()[:2])
        folder = Path(mount.path) / CHECKPOINT
        words = [sys.executable, __file__, "--write", str(folder), str(files), str(size)]
        told = subprocess.run(words, check=True, timeout=LIMIT_SECONDS, stdout=subprocess.PIPE)
        began, ended = json.loads(told.stdout)
        names = [f"shard-{number:05}.bin" for number in range(files)]
        prover.prove(CHECKPOINT, 1, [*names, "trainer_state.json"], began=began)
        return Row(
            backend,
            files,
            size,
            ended - began,
            time.monotonic() - began,
            time.process_time() - own,
            sum(daemon.cpu_times()[:2]) - theirs,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            _most(daemon.pid),
            0,
        )


def _most(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def median(rows: list[Row]) -> Row:
    """The median of each figure."""
    told = [asdict(row) for row in rows]
    kept = ("backend", "files", "size")
    figures = {
        name: value if name in kept else statistics.median(row[name] for row in told)
        for name, value in told[0].items()
    }
    return Row(**figures)


def table(rows: list[Row]) -> str:
    """The figures, as Markdown."""
    heads = ["backend", "files", "MB each", "saved", "proven", "CPU", "its daemon's"]
    heads += ["cores at 100 MB/s", "memory", "its daemon's", "requests"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        cores = f"{row.cores:.2f}" if row.size > SMALL else ""
        lines.append(
            f"| {row.backend} | {row.files:,} | {row.size / MB:,.3g} | {row.saved:.2f} s "
            f"| {row.proven:.2f} s | {row.cpu:.2f} s | {row.daemon_cpu:.2f} s | {cores} "
            f"| {row.memory // MIB:,.0f} MiB | {row.daemon_memory // MIB:,.0f} MiB "
            f"| {row.requests:,.0f} |"
        )
    return "\n".join(lines)


def plot(rows: list[Row]) -> str:
    """Both as lines over logarithmic axes, as SVG: a slope of 1 is linear."""
    panels = (
        ("files of 4 KiB", [(row, row.files) for row in rows if row.size == SMALL]),
        ("MB in one file", [(row, row.size // MB) for row in rows if row.size > SMALL]),
    )
    parts, left = [], 60
    for title, group in panels:
        if not group:
            continue
        across = _logarithmic([amount for _, amount in group], left, left + 260)
        up = _logarithmic([row.proven for row, _ in group], 230, 40)
        parts.append(f'<text x="{left}" y="16" class="h">{title}</text>')
        for backend in dict.fromkeys(row.backend for row, _ in group):
            line = [(row, amount) for row, amount in group if row.backend == backend]
            points = " ".join(f"{across(amount)},{up(row.proven)}" for row, amount in line)
            parts.append(f'<polyline class="{backend}" points="{points}"/>')
            for row, amount in line:
                x, y = across(amount), up(row.proven)
                # The one that takes longer has its figure above it, the other one below.
                slower = row.proven >= max(each.proven for each, same in group if same == amount)
                said = f"{row.proven:.{1 if row.proven < 10 else 0}f} s"
                parts.append(
                    f'<circle class="{backend}" cx="{x}" cy="{y}" r="3"/>'
                    f'<text x="{x}" y="{y - 7 if slower else y + 15}" class="s">{said}</text>'
                    f'<text x="{x}" y="258" class="s">{amount:,}</text>'
                )
        left += 340
    style = (
        "text{font:12px sans-serif;fill:#444}.h{font-weight:bold}.s{font-size:10px;"
        "text-anchor:middle}polyline{fill:none;stroke-width:2}.rclone{stroke:#d9730d}"
        ".mountpoint{stroke:#3b6fb6}circle.rclone{fill:#d9730d}circle.mountpoint{fill:#3b6fb6}"
    )
    said = "Seconds until a checkpoint is proven. Orange: rclone. Blue: Mountpoint."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left} 280"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}'
        f'<text x="60" y="276">{said}</text></svg>\n'
    )


def _logarithmic(values: Sequence[float], low: int, high: int) -> Callable[[float], int]:
    """What takes the least of these values to ``low`` and the greatest to ``high``."""
    least, span = log10(min(values)), log10(max(values) / min(values)) or 1.0
    return lambda value: round(low + (high - low) * (log10(value) - least) / span)


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Each number of files and each size, on each backend."""
    wanted = [(number, SMALL) for number in arguments.files]
    wanted += [(1, megabytes * MB) for megabytes in arguments.size]
    rows: list[Row] = []
    with stage(arguments.directory) as there:
        for files, size in wanted:
            for backend in arguments.backend:
                found = []
                for number in range(arguments.pairs):
                    print(f"{backend}: {files} x {size / MB:g} MB", file=sys.stderr)
                    prefix = f"{backend}-{files}-{size}-{number}"
                    words = ["--prove", backend, f"s3://{BUCKET}/{prefix}"]
                    words += [str(there.scratch / f"m-{prefix}"), str(files), str(size)]
                    asked = there.asked()
                    told = subprocess.run(
                        [sys.executable, __file__, *words],
                        check=True,
                        timeout=LIMIT_SECONDS,
                        stdout=subprocess.PIPE,
                    )
                    more = there.asked() - asked
                    found.append(Row(**{**json.loads(told.stdout), "requests": more}))
                    shutil.rmtree(there.server.data / BUCKET / prefix)
                    shutil.rmtree(there.scratch / "c", ignore_errors=True)
                rows.append(median(found))
                # All of it takes its time, and what is known is not to be lost with the rest.
                print(table(rows[-1:]).splitlines()[-1], file=sys.stderr)
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--write"]:
        folder, files, size = sys.argv[2:]
        # On the clock that all processes share.
        began = time.monotonic()
        write(Path(folder), int(files), int(size))
        print(json.dumps([began, time.monotonic()]))
        return
    if sys.argv[1:2] == ["--prove"]:
        backend, source, target, files, size = sys.argv[2:]
        row = prove(backend, source, Path(target), int(files), int(size))
        print(json.dumps(asdict(row)))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, nargs="*", default=[10, 100, 1000, 10_000])
    parser.add_argument("--size", type=int, nargs="*", default=[1000, 4000, 16_000], metavar="MB")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--backend", nargs="+", default=list(MOUNTING), choices=MOUNTING)
    parser.add_argument("--directory", type=Path, help="where all of it is written")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    arguments = parser.parse_args()
    rows = measure(arguments)
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if arguments.svg:
        arguments.svg.write_text(plot(rows))


if __name__ == "__main__":
    main()
