"""How soon a checkpoint is in the store, by mountkit and by what else is in use; all in one run.

    python tests/bench/peers.py [--size MB ...] [--saves N] [--way NAME ...] [--s3fs DIR]
        [--directory DIR] [--json FILE] [--svg FILE]

The same Trainer saves by each way, one after the other, into versitygw on loopback. "blocked" is
how long the training stands still in a save, in which most others upload; "there" when its bytes
are uploaded, or by mountkit proven, from the start of the save: medians of ``--saves``. CPU seconds
a save are those of all processes of a way, its training included, and memory the most they had at
once. "sent" is what went over the loopback a save, and "requests" what the store noted. The last
column compares with the fastest of the others: below 1 mountkit has *proven* a checkpoint before
that one has *uploaded* it. No logs are copied. On a busy machine none of it means anything.

s3fs wants another botocore, so it lies apart: ``pip install --target DIR s3fs``. What an upload to
the Hub takes cannot be measured without the Hub.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stage import BUCKET, Stage, stage

from mountkit.linux import mount_table
from mountkit.timing import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

TRAINING = Path(__file__).with_name("peers_training.py")
WAYS = (
    "local disk",
    "boto3",
    "boto3, CRT",
    "s3fs.put",
    "rclone copy",
    "rclone mount, MOUNT_CACHED",
    "Mountpoint, bare",
    "mountkit, rclone",
    "mountkit, Mountpoint",
    "mountkit, rclone, 2 ranks",
    "mountkit, Mountpoint, 2 ranks",
)
MIB = 1024 * 1024
LIMIT_SECONDS = 3600
PR_SET_CHILD_SUBREAPER = 36
RANKS = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# As SkyPilot mounts: one upload at a time, begun a second after the last use.
MOUNT_CACHED = (
    *("--allow-other", "--vfs-cache-mode", "full", "--dir-cache-time", "10s", "--transfers", "1"),
    *("--vfs-cache-poll-interval", "10s", "--vfs-write-back", "1s", "--vfs-cache-max-size", "10G"),
    "--vfs-fast-fingerprint",
)


@dataclass(frozen=True)
class Row:
    """What one way took for one size: seconds, bytes and counts, medians of the saves."""

    way: str
    megabytes: int
    blocked: float
    there: float | None
    cpu: float
    memory: int
    sent: int
    requests: int


class Memory:
    """The most memory that the processes below this one had at once, but for the store."""

    def __init__(self, store: int) -> None:
        self._store = store
        self._ended = threading.Event()
        self.peak = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            now = 0
            for each in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    now += 0 if each.pid == self._store else each.memory_info().rss
            self.peak = max(self.peak, now)

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        return self.peak


class Peers:
    """The store, and the ways into it."""

    def __init__(self, there: Stage, s3fs: Path | None) -> None:
        self._s3fs = s3fs
        self._server = there.server
        self._scratch = there.scratch
        self._asked = there.asked
        self._count = 0

    def measure(self, way: str, megabytes: int, saves: int) -> Row:
        """Train by one way, and say what it took."""
        self._count += 1
        prefix = f"{self._count}"
        target, report = self._scratch / f"m{prefix}", self._scratch / f"{prefix}.json"
        source = f"s3://{BUCKET}/{prefix}"
        env = {**os.environ, "PEERS_ENDPOINT": self._server.endpoint_url, "PEERS_SOURCE": source}
        if way == "s3fs.put":
            env["PYTHONPATH"] = f"{self._s3fs}:{env.get('PYTHONPATH', '')}"
        words = [str(TRAINING), way, str(target), str(megabytes), str(saves), str(report)]
        if way.endswith("2 ranks"):
            words = [*RANKS, *words]
        os.sync()
        cpu, sent, asked = self._cpu(), _loopback(), self._asked()
        memory = Memory(self._server.pid)
        try:
            with self._mounted(way, prefix, target, env, words) as command:
                subprocess.run(
                    command, env=env, check=True, timeout=LIMIT_SECONDS, stdout=subprocess.DEVNULL
                )
            self._reap()
        finally:
            peak = memory.stop()
        found = json.loads(report.read_text())
        there = [each for _, each in found if each is not None]
        row = Row(
            way,
            megabytes,
            statistics.median(blocked for blocked, _ in found),
            statistics.median(there) if there else None,
            (self._cpu() - cpu) / (saves + 1),
            peak,
            (_loopback() - sent) // (saves + 1),
            (self._asked() - asked) // (saves + 1),
        )
        for left in (target, self._server.data / BUCKET / prefix):
            shutil.rmtree(left, ignore_errors=True)
        return row

    @contextmanager
    def _mounted(
        self, way: str, prefix: str, target: Path, env: dict[str, str], words: list[str]
    ) -> Iterator[list[str]]:
        """What to run, with what it saves into mounted where the command does not do so itself."""
        python, url = sys.executable, self._server.endpoint_url
        if way.startswith("mountkit"):
            backend = way.split(", ")[1].lower()
            how = ["--backend", backend, "--endpoint-url", url, "--no-attach"]
            place = f"s3://{BUCKET}/{prefix}"
            yield [python, "-m", "mountkit", "run", *how, place, str(target), "--", python, *words]
            return
        mounted = self._scratch / f"peer{prefix}"
        if way == "rclone mount, MOUNT_CACHED":
            socket = self._scratch / f"{prefix}.sock"
            remote = f":s3,provider=Other,env_auth,endpoint='{url}':{BUCKET}/{prefix}"
            cache = ["--cache-dir", str(self._scratch / f"cache{prefix}")]
            rc = ["--rc", "--rc-no-auth", "--rc-addr", f"unix://{socket}"]
            command = ["rclone", "mount", remote, str(mounted), *MOUNT_CACHED, *cache, *rc]
            env["PEERS_SOCKET"] = str(socket)
            words[words.index(str(target))] = str(mounted)
        elif way == "Mountpoint, bare":
            how = ["--foreground", "--endpoint-url", url, "--force-path-style", "--prefix"]
            command = ["mount-s3", BUCKET, str(mounted), *how, f"{prefix}/"]
            env["PEERS_MOUNT"] = str(mounted)
        else:
            yield [python, *words]
            return
        mounted.mkdir()
        daemon = subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: daemon.poll() is not None or _mounted(mounted), 30)
            if not _mounted(mounted):
                raise RuntimeError(f"{way} does not mount: {' '.join(command)}")
            yield [python, *words]
        finally:
            subprocess.run(["fusermount3", "-u", "-z", str(mounted)], check=False, timeout=60)
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(30)
            daemon.kill()
            daemon.wait()

    def _reap(self) -> None:
        """Take in what outlived its parent: its processor time counts, too."""

        def others() -> list[psutil.Process]:
            found = [each for each in psutil.Process().children() if each.pid != self._server.pid]
            for each in found:
                with suppress(ChildProcessError):
                    os.waitpid(each.pid, os.WNOHANG)
            return found

        if not wait_until(lambda: not others(), 60):
            raise TimeoutError(f"{others()} run on: the processor time of this way is not known")

    @staticmethod
    def _cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime


def _mounted(place: Path) -> bool:
    return mount_table.at(str(place)) is not None


def _loopback() -> int:
    """Bytes that went over the loopback so far."""
    line = next(each for each in Path("/proc/net/dev").read_text().splitlines() if " lo:" in each)
    return int(line.split(":")[1].split()[0])


def fastest(rows: list[Row], megabytes: int) -> float:
    """When the first of the others had uploaded a checkpoint."""
    return min(
        (
            row.there
            for row in rows
            if row.megabytes == megabytes and row.there and not row.way.startswith("mountkit")
        ),
        default=float("nan"),
    )


def table(rows: list[Row]) -> str:
    """The figures, as Markdown."""
    lines = [
        "| MB | way | blocked | there | CPU | memory | sent | requests | to the fastest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        there = "never" if row.there is None else f"{row.there:.2f} s"
        if row.way.startswith("mountkit"):
            there += ", proven"
        ratio = "" if row.there is None else f"{row.there / fastest(rows, row.megabytes):.2f}"
        lines.append(
            f"| {row.megabytes} | {row.way} | {row.blocked:.2f} s | {there} | {row.cpu:.1f} s "
            f"| {row.memory // MIB:,} MiB | {row.sent / 1e6:.0f} MB | {row.requests} | {ratio} |"
        )
    return "\n".join(lines)


def plot(rows: list[Row]) -> str:
    """Bars as SVG: how long each way keeps the training, and until the bytes are there."""
    left, width, height = 230, 460, 22
    parts, y = [], 10
    for megabytes in sorted({row.megabytes for row in rows}):
        group = [row for row in rows if row.megabytes == megabytes]
        longest = max(max(row.blocked, row.there or 0.0) for row in group)
        parts.append(f'<text x="0" y="{y + 14}" class="h">{megabytes} MB a checkpoint</text>')
        y += height + 4
        for row in group:
            ours = ' class="m"' if row.way.startswith("mountkit") else ""
            there, blocked = (
                f"{width * seconds / longest:.0f}" for seconds in (row.there or 0.0, row.blocked)
            )
            end = max(row.there or 0.0, row.blocked)
            said = "never uploaded" if row.there is None else f"{row.there:.2f} s"
            said += ", proven" if ours else ""
            parts.append(
                f'<text x="{left - 8}" y="{y + 14}" class="w">{escape(row.way)}</text>'
                f'<rect{ours} x="{left}" y="{y + 2}" width="{there}" height="15" opacity="0.45"/>'
                f'<rect{ours} x="{left}" y="{y + 2}" width="{blocked}" height="15"/>'
                f'<text x="{left + 6 + width * end / longest:.0f}" y="{y + 14}">{said}</text>'
            )
            y += height
        y += 12
    style = (
        "text{font:12px sans-serif;fill:#444}.w{text-anchor:end}.h{font-weight:bold}"
        "rect{fill:#9aa5b1}.m{fill:#d9730d}.b{fill:#fff}"
    )
    parts.append(
        f'<text x="0" y="{y + 12}">Dark: the training stands still. '
        "Light: until the bytes are uploaded; by mountkit, proven.</text>"
    )
    size = f"{left + width + 150} {y + 24}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}">'
        f'<style>{style}</style><rect class="b" width="100%" height="100%"/>'
        f"{''.join(parts)}</svg>\n"
    )


def missing(way: str, s3fs: Path | None) -> str:
    """Why a way cannot be measured here; "" if it can."""
    if way == "s3fs.put" and s3fs is None:
        return "not measured: --s3fs says where it is"
    if "Mountpoint" in way and shutil.which("mount-s3") is None:
        return "mount-s3 is not on PATH; see .ci/setup --tools"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs="+", default=[36, 525], help="MB a checkpoint")
    parser.add_argument("--saves", type=int, default=5)
    parser.add_argument("--way", nargs="+", default=list(WAYS), choices=WAYS, metavar="NAME")
    parser.add_argument("--s3fs", type=Path, metavar="DIR", help="where it is installed")
    parser.add_argument("--directory", type=Path, help="where all of it is written")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    rows: list[Row] = []
    with stage(arguments.directory) as there:
        peers = Peers(there, arguments.s3fs)
        for megabytes in arguments.size:
            for way in arguments.way:
                why = missing(way, arguments.s3fs)
                print(f"{megabytes} MB, {way}{': ' if why else ''}{why}", file=sys.stderr)
                if not why:
                    rows.append(peers.measure(way, megabytes, arguments.saves))
    print(table(rows))
    if arguments.json:
        told: list[dict[str, Any]] = [asdict(row) for row in rows]
        arguments.json.write_text(json.dumps(told, indent=1))
    if arguments.svg:
        arguments.svg.write_text(plot(rows))


if __name__ == "__main__":
    main()
