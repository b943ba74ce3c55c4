"""How soon a lost mount serves again, against a bare mount of the same backend; and the idle cost.

    python tests/bench/recovery.py [--pairs N] [--idle SECONDS] [--json FILE] [BACKEND ...]

"bare" is the daemon alone with mountkit's own command line, from its start until its mount answers.
"kill" and "stop" are from the signal until the mount answers again and mountkit says it serves.
Each pair is taken in the same run, one after the other; the medians are printed, and how far a
recovery is above a bare mount. "idle" is the supervisor with all that belongs to it but the daemon:
its processor time as a share of one core, and its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mountkit import backends
from mountkit.config import directories, environment, settings
from mountkit.demo.s3_server import EmbeddedS3
from mountkit.linux import mount_io, mount_table
from mountkit.linux.fusermount import fusermount
from mountkit.mounts.mounter import Mounter
from mountkit.mounts.resolve_spec import resolve_mount_spec
from mountkit.state.record import SERVING
from mountkit.state.registry import State
from support.versity import Versity

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "bench"
LIMIT_SECONDS = 60.0
MIB = 1024 * 1024


def wait(condition, what: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"After {LIMIT_SECONDS:.0f} s: not {what}.")
        time.sleep(0.005)


def answers(target: Path) -> bool:
    entry = mount_table.at(str(target))
    return entry is not None and mount_io.ask(str(target), 1.0).alive


@contextmanager
def store(backend: str, scratch: Path) -> Iterator[EmbeddedS3 | Versity]:
    if backend == "rclone":
        binary = backends.load("rclone").binary(os.environ["PATH"]).path
        with EmbeddedS3(buckets=[BUCKET], binary=binary) as server:
            yield server
        return
    binary = shutil.which("versitygw") or sys.exit(
        "versitygw is not on PATH; see .ci/setup --tools"
    )
    with Versity(scratch / "store", binary) as server:
        import boto3

        boto3.client(
            "s3",
            endpoint_url=server.endpoint_url,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            region_name="us-east-1",
        ).create_bucket(Bucket=BUCKET)
        yield server


class Bench:
    """One backend on one store, mounted by ``mountkit mount``."""

    def __init__(self, backend: str, server: EmbeddedS3 | Versity, scratch: Path) -> None:
        self.scratch = scratch
        self.backend = backend
        os.environ.update(
            MOUNTKIT_STATE_DIR=str(scratch / "s"),
            MOUNTKIT_CACHE_DIR=str(scratch / "c"),
            MOUNTKIT_ENDPOINT_URL=server.endpoint_url,
            MOUNTKIT_BACKEND=backend,
            **server.environment(),
        )
        self.settings = settings.load()

    def bare(self, number: int) -> float:
        """Seconds from the daemon's start until its mount answers."""
        target = self.scratch / f"bare-{number}"
        spec = resolve_mount_spec(f"s3://{BUCKET}/bare-{number}", target, self.settings)
        backend = backends.load(self.backend)
        binary = backend.binary(os.environ["PATH"])
        directory = State(directories.state_root(self.settings)).directory(spec.id)
        env = environment.daemon_environment(spec.source, spec.store)
        mounter = Mounter(spec, backend, binary, directory, fusermount(os.environ["PATH"]), env)
        mounter.clear_target(None)
        command = backend.command(spec, binary, directory.path, env)
        for name, text in command.files.items():
            directory.write_file(name, text)
        began = time.monotonic()
        daemon = subprocess.Popen(
            command.argv,
            env=dict(command.env),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait(lambda: answers(target), "a bare mount")
        seconds = time.monotonic() - began
        daemon.terminate()
        daemon.wait()
        mounter.release()
        return seconds

    def mountkit(self, *words: str) -> None:
        command = [sys.executable, "-m", "mountkit", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")

    @contextmanager
    def mounted(self) -> Iterator[tuple[Path, State]]:
        target = self.scratch / "mnt"
        self.mountkit("mount", f"s3://{BUCKET}/run", str(target))
        try:
            yield target, State(directories.state_root(self.settings))
        finally:
            self.mountkit("umount", str(target))

    def recover(self, number: signal.Signals, target: Path, known: State) -> float:
        """Seconds from the signal until the mount serves again."""
        record = known.at(str(target))
        before = record.remounts
        # A mount that is lost soon after it came up is restarted after a pause, on purpose.
        time.sleep(6.0)
        began = time.monotonic()
        record.daemon.send(number)

        def again() -> bool:
            now = known.at(str(target))
            return now is not None and now.remounts > before and now.state == SERVING

        wait(again, "a repaired mount")
        wait(lambda: answers(target), "an answer")
        return time.monotonic() - began

    def idle(self, seconds: float, target: Path, known: State) -> tuple[float, float]:
        """Share of a core, and MiB, of the supervisor and its helpers."""
        record = known.at(str(target))
        supervisor = psutil.Process(record.supervisor.pid)

        def family() -> list[psutil.Process]:
            children = supervisor.children(recursive=True)
            return [supervisor, *(one for one in children if one.pid != record.daemon.pid)]

        def used() -> float:
            return sum(sum(one.cpu_times()[:2]) for one in family())

        before = used()
        time.sleep(seconds)
        share = (used() - before) / seconds
        # What is shared with others counts once: PSS.
        memory = sum(one.memory_full_info().pss for one in family())
        return share, memory / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--idle", type=float, default=30.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("backends", nargs="*", default=[])
    arguments = parser.parse_args()
    rows = {}
    probe_timeout = settings.load().probe_timeout
    for backend in arguments.backends or backends.NAMES:
        with tempfile.TemporaryDirectory(prefix="mkb-") as name:
            scratch = Path(name)
            with store(backend, scratch) as server:
                bench = Bench(backend, server, scratch)
                bench.bare(0)
                taken = []
                with bench.mounted() as (target, known):
                    for number in range(1, arguments.pairs + 1):
                        bare = bench.bare(number)
                        kill = bench.recover(signal.SIGKILL, target, known)
                        taken.append((bare, kill, bench.recover(signal.SIGSTOP, target, known)))
                    share, memory = bench.idle(arguments.idle, target, known)
                bare, kill, stop = (
                    statistics.median(column) for column in zip(*taken, strict=True)
                )
                over_kill = statistics.median(row[1] - row[0] for row in taken)
                over_stop = statistics.median(row[2] - row[0] for row in taken) - probe_timeout
                rows[backend] = {
                    "bare": bare,
                    "kill": kill,
                    "stop": stop,
                    "kill_over_bare": over_kill,
                    "stop_over_bare_and_probe": over_stop,
                    "idle_share": share,
                    "idle_mib": memory,
                }
                print(
                    f"{backend:10}  bare {bare:.2f} s  kill {kill:.2f} s (bare + {over_kill:.2f})  "
                    f"stop {stop:.2f} s (bare + probe timeout + {over_stop:.2f})  "
                    f"idle {share:.2%} of a core, {memory:.0f} MiB",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
