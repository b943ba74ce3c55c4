"""Around the demo: temporary directories, the commands it runs, and the clearing up."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

import mountkit
from mountkit.linux import mount_table
from mountkit.linux.process import tail
from mountkit.state.record import SERVING
from mountkit.state.registry import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mountkit.demo.servers import Reached
    from mountkit.linux.process import ProcessIdentity

POLL_SECONDS = 0.05
COMMAND_SECONDS = 300.0
LIFE_SECONDS = 900.0
STOP_SECONDS = 30.0
KILL_SECONDS = 5.0
#: What runs the training script.
TRAINING = (sys.executable, "-m", "mountkit.demo.training")


class StoryError(Exception):
    """The demo cannot go on; the claims that were not reached did not hold."""


class Life:
    """One ``mountkit run`` with the training script in it, and the events the script reports."""

    def __init__(self, process: subprocess.Popen[bytes], journal: Path, log: Path) -> None:
        self.process = process
        self.log = log
        self._journal = journal

    def events(self) -> Iterator[dict[str, Any] | None]:
        """Yield every event as it comes, and None while there is none, until the job has ended.

        Raises StoryError if the job has not ended after fifteen minutes.
        """
        deadline = time.monotonic() + LIFE_SECONDS
        rest = b""
        with self._journal.open("rb") as stream:
            while True:
                # Asked first: what is written before the end is then surely read.
                ended = self.process.poll() is not None
                *lines, rest = (rest + stream.read()).split(b"\n")
                for line in lines:
                    yield json.loads(line)
                if ended:
                    return
                if time.monotonic() > deadline:
                    raise StoryError(f"The job did not end within {LIFE_SECONDS:.0f} s.")
                yield None
                time.sleep(POLL_SECONDS)

    def terminate(self) -> None:
        """Ask ``mountkit run`` to end, as a cluster does with a job."""
        self.process.terminate()

    def code(self) -> int:
        """Give the exit code of the ended job as a shell would."""
        status = self.process.wait(STOP_SECONDS)
        return status if status >= 0 else 128 - status


class Stage:
    """The demo's own directories, and every process it starts.

    The state directory lies in here too, so that whatever is left over can be told from other
    mounts of this user.
    """

    def __init__(self, training: Sequence[str] = TRAINING) -> None:
        # Resolved, because the mount table and the command lines show the resolved path.
        self.work = Path(tempfile.mkdtemp(prefix="mk-demo-")).resolve()
        self.target = self.work / "output"
        self.gates = self.work / "gates"
        self.gates.mkdir()
        self._training = training
        self._environment: dict[str, str] = {}
        self._lives: list[Life] = []

    def remove(self) -> None:
        """Remove the directories, but never through a mount that is still in them."""
        if not self.mounts():
            shutil.rmtree(self.work, ignore_errors=True)

    def use(self, store: Reached) -> None:
        """Run all further commands with what leads to this store."""
        package = str(Path(mountkit.__file__).resolve().parent.parent)
        path = (package, store.environment.get("PYTHONPATH"))
        options = dataclasses.asdict(store.options)
        self._environment = {
            **store.environment,
            **{f"MOUNTKIT_{name.upper()}": value for name, value in options.items() if value},
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "MOUNTKIT_STATE_DIR": str(self.work / "state"),
            "MOUNTKIT_CACHE_DIR": str(self.work / "cache"),
            "HF_HUB_OFFLINE": "1",
        }

    def begin(self, source: str, options: Sequence[str]) -> Life:
        """Start ``mountkit run`` with the training script."""
        number = len(self._lives) + 1
        journal, log = self.work / f"journal-{number}", self.work / f"run-{number}.log"
        journal.touch()
        script = [*self._training, str(self.target), "--journal", str(journal)]
        command = [sys.executable, "-m", "mountkit", "run", source, str(self.target)]
        command += ["--backend", "rclone", "--"]
        command += [*script, "--gates", str(self.gates), *options]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                env=self._environment,
                cwd=self.work,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                # Ctrl-C reaches the demo alone, which then ends the job in good order.
                start_new_session=True,
            )
        self._lives.append(Life(process, journal, log))
        return self._lives[-1]

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a ``mountkit`` command to its end."""
        try:
            return subprocess.run(
                [sys.executable, "-m", "mountkit", *words],
                env=self._environment,
                cwd=self.work,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            limit = f"{COMMAND_SECONDS:.0f} s"
            raise StoryError(f"mountkit {words[0]} did not end within {limit}.") from error

    def daemon(self) -> ProcessIdentity | None:
        """Find the daemon of the mount at the target, if the mount serves."""
        record = State(self.work / "state").at(str(self.target))
        return record.daemon if record is not None and record.state == SERVING else None

    def mounts(self) -> list[str]:
        """Find what is mounted below the demo's directory."""
        inside = f"{self.work}/"
        return [entry.target for entry in mount_table.read() if entry.target.startswith(inside)]

    def processes(self) -> dict[psutil.Process, str]:
        """Find every process that the demo has started, by the paths on its command line."""
        return {
            process: f"{process.info['name']} runs as {process.pid}"
            for process in psutil.process_iter(["name", "cmdline", "status"])
            if str(self.work) in " ".join(process.info["cmdline"] or [])
            and process.info["status"] != psutil.STATUS_ZOMBIE
        }

    def last_words(self) -> str:
        """Quote the end of what the latest job printed."""
        return tail(self._lives[-1].log, 2000) if self._lives else ""

    def strike(self) -> None:
        """End whatever still runs, while the store is still there to drain into."""
        for life in self._lives:
            if life.process.poll() is None:
                life.terminate()
                try:
                    life.process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    life.process.kill()
                    life.process.wait(STOP_SECONDS)
        for target in self.mounts():
            subprocess.run(
                ["fusermount3", "-u", "-z", target],  # noqa: S607 - wherever the system has it
                check=False,
                timeout=STOP_SECONDS,
            )

    def left(self) -> list[str]:
        """Name what is still mounted or running."""
        psutil.wait_procs(list(self.processes()), timeout=KILL_SECONDS)
        mounts = [f"{target} is mounted" for target in self.mounts()]
        return [*mounts, *self.processes().values()]

    def sweep(self) -> None:
        """Kill what is left of the demo's processes."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def command_lines() -> str:
    """Join every command line on this machine, as anybody can read it with ps."""
    return "\n".join(
        " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])
    )
