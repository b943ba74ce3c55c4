"""What a fuse test works with: a store, a target, mountkit's commands, and what they leave.

The test's own process never touches a mount: the commands and scripts it starts do.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

import mountkit
from mountkit import backends
from mountkit.linux import mount_table
from mountkit.names import LEASE_NAME
from mountkit.state.record import FAILED, SERVING
from mountkit.state.registry import State
from mountkit.supervision import probe_child
from support import in_process
from support.gate import Gate
from support.proxy import Proxy
from support.versity import PRIVATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mountkit.demo.s3_server import EmbeddedS3
    from mountkit.state.record import MountRecord
    from support.versity import Versity

    Server = EmbeddedS3 | Versity

SCRIPTS = Path(__file__).resolve().parents[1] / "fuse" / "scripts"
PACKAGE = Path(mountkit.__file__).resolve().parent.parent
MANIFEST = "mountkit-manifest.json"
#: The backends that mount a store; into the other one a training saves itself.
MOUNTING = tuple(name for name in backends.NAMES if backends.load(name).mounts)
LIMIT_SECONDS = 120.0
END_SECONDS = 15.0

sys.path.insert(0, str(SCRIPTS))


def eventually(condition: Callable[[], Any], what: str, limit: float = 60.0) -> Any:
    """Wait until ``condition`` holds and return what it returned; fail after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < deadline, f"After {limit:.0f} s: not {what}."
        time.sleep(0.02)
    return found


def prober(job: Job) -> psutil.Process:
    """The helper that asks the mount of a job."""
    (found,) = [
        child
        for child in psutil.Process(job.process.pid).children()
        if probe_child.__doc__ in " ".join(child.cmdline())
    ]
    return found


def await_turns(helper: psutil.Process, count: float) -> None:
    """Wait until it has done something so often: at a tick, or when its supervisor looks."""
    wanted = helper.num_ctx_switches().voluntary + count
    eventually(lambda: helper.num_ctx_switches().voluntary >= wanted, "looked")


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __str__(self) -> str:
        return f"{' '.join(self.words)}\ncode {self.code}\nout: {self.out}\nerr: {self.err}"


class Job:
    """A command that runs."""

    def __init__(
        self, words: Iterable[str], env: Mapping[str, str], cwd: Path, limit: float, log: Path
    ) -> None:
        self.words = tuple(words)
        self._out, self._err = log.with_suffix(".out"), log.with_suffix(".err")
        self._limit = limit
        self._began = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                self.words,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self) -> Answer:
        """Wait for the end; a command that takes too long is a failure, with what it said."""
        try:
            status = self.process.wait(max(1.0, self._limit - (time.monotonic() - self._began)))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                f"{' '.join(self.words)}\ndid not end within {self._limit:.0f} s:\n{self.err}"
            ) from None
        return Answer(
            self.words,
            status if status >= 0 else 128 - status,
            self._out.read_text(errors="replace"),
            self.err,
            time.monotonic() - self._began,
        )


def assert_same(found: Mapping[str, bytes], expected: Mapping[str, bytes]) -> None:
    """The same files with the same bytes; of megabytes pytest would make a diff for ever."""
    unlike = [
        f"{path}: {len(found[path]) if path in found else 'no'} bytes, "
        f"not the {len(expected[path]) if path in expected else 'no'} expected"
        for path in sorted({*found, *expected})
        if found.get(path) != expected.get(path)
    ]
    assert unlike == []


@lru_cache
def client_of(server: Server) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )


@dataclass
class Bucket:
    """A bucket of the test server, seen on the server's own disk."""

    server: Server
    name: str

    @property
    def disk(self) -> Path:
        return self.server.data / self.name

    def files(self, prefix: str = "") -> dict[str, bytes]:
        """Every object below a prefix by its path, without mountkit's manifests."""
        found = self.everything(prefix)
        return {path: data for path, data in found.items() if Path(path).name != MANIFEST}

    def everything(self, prefix: str = "") -> dict[str, bytes]:
        """Every object below a prefix but the lease, which is there as long as the run."""
        top = self.disk / prefix
        found = {}
        for folder, folders, names in os.walk(top):
            if PRIVATE in folders:
                folders.remove(PRIVATE)
            for path in (Path(folder) / name for name in names):
                if path.name == LEASE_NAME:
                    continue
                # An object that is being uploaded has another name until it is all there.
                with contextlib.suppress(FileNotFoundError):
                    found[path.relative_to(top).as_posix()] = path.read_bytes()
        return found

    # What somebody else does to the bucket, by the server, so that it knows of it.

    def put(self, key: str, data: bytes) -> None:
        self.client().put_object(Bucket=self.name, Key=key, Body=data)

    def remove(self, key: str) -> None:
        self.client().delete_object(Bucket=self.name, Key=key)

    def flip(self, key: str) -> None:
        """Change one bit of an object."""
        data = bytearray(self.everything()[key])
        data[len(data) // 2] ^= 1
        self.put(key, bytes(data))

    def truncate(self, key: str) -> None:
        """Take an object's last byte away."""
        self.put(key, self.everything()[key][:-1])

    def manifest(self, checkpoint: str) -> dict[str, Any] | None:
        path = self.disk / checkpoint / MANIFEST
        return json.loads(path.read_bytes()) if path.exists() else None

    def arrived(self, checkpoint: str) -> dict[str, int]:
        """When the server last touched each file of a checkpoint, in nanoseconds.

        That is its inode's change time: the modification time is the client's to choose.
        """
        top = self.disk / checkpoint
        found = {}
        for path in top.rglob("*"):
            # The server's own file of an upload goes when that is over.
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if stat.S_ISREG(status.st_mode):
                    found[path.relative_to(top).as_posix()] = status.st_ctime_ns
        return found

    def client(self) -> Any:
        return client_of(self.server)


@dataclass
class Rig:
    """One test's place: directories of its own below the run's temporary home, and one target."""

    backend: str
    server: Server
    work: Path
    python: str = sys.executable
    settings: dict[str, str] = field(default_factory=dict)
    _bucket: str = ""
    _count: int = 0
    _gates: list[Gate | Proxy] = field(default_factory=list)

    @classmethod
    def make(cls, backend: str, server: Server) -> Rig:
        # Resolved, because the mount table and the command lines show the resolved path.
        home = Path(os.environ["HOME"]).resolve()
        rig = cls(backend, server, Path(tempfile.mkdtemp(prefix="t", dir=home)))
        for folder in (rig.gates, rig.logs, rig.home):
            folder.mkdir()
        return rig

    # Places

    @property
    def target(self) -> Path:
        return self.work / "output"

    @property
    def gates(self) -> Path:
        return self.work / "gates"

    @property
    def logs(self) -> Path:
        return self.work / "logs"

    @property
    def home(self) -> Path:
        return self.work / "home"

    @property
    def cache(self) -> Path:
        return self.work / "cache"

    @property
    def state(self) -> Path:
        return self.work / "state"

    def bucket(self, name: str = "") -> Bucket:
        """A bucket of this test's own."""
        self._bucket = self._bucket or f"b-{uuid.uuid4().hex[:12]}"
        bucket = Bucket(self.server, name or self._bucket)
        if not bucket.disk.exists():
            # Asked of the server, which does not look at its disk every time.
            bucket.client().create_bucket(Bucket=bucket.name)
        return bucket

    def gate(self) -> Gate:
        """A way to the server that this test can shut."""
        gate = Gate(self.server.endpoint_url)
        self._gates.append(gate)
        return gate

    def proxy(self) -> Proxy:
        """A way to the server on which this test can let single requests go wrong."""
        proxy = Proxy(self.server.endpoint_url)
        self._gates.append(proxy)
        return proxy

    # Commands

    def environment(self, **changes: str | None) -> dict[str, str]:
        """The environment of the commands; a change to None takes a variable away."""
        values: dict[str, str | None] = {
            **os.environ,
            "HOME": str(self.home),
            "PYTHONPATH": str(PACKAGE),
            "MOUNTKIT_STATE_DIR": str(self.state),
            "MOUNTKIT_CACHE_DIR": str(self.cache),
            "AWS_ACCESS_KEY_ID": self.server.access_key,
            "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            **self.settings,
            **changes,
        }
        return {name: value for name, value in values.items() if value is not None}

    def start(self, *words: str | Path, limit: float = LIMIT_SECONDS, **env: str | None) -> Job:
        self._count += 1
        log = self.logs / f"{self._count:02}"
        return Job(map(str, words), self.environment(**env), self.work, limit, log)

    def mountkit(self, *words: str | Path, limit: float = 60.0, **env: str | None) -> Answer:
        """A mountkit command, to its end."""
        return self.start(self.python, "-m", "mountkit", *words, limit=limit, **env).wait()

    def ask(self, command: str, url: str, *options: str) -> Answer:
        """``verify`` or ``latest`` of a URL of the server, in this process: no mount is touched."""
        assert command in {"verify", "latest"}
        assert url.startswith("s3://")
        words = (command, url, "--endpoint-url", self.server.endpoint_url, *options)
        began = time.monotonic()
        code, out, err = in_process.invoke(words, self.environment())
        return Answer(("mountkit", *words), code, out, err, time.monotonic() - began)

    def standing(
        self, place: Path, *words: str | Path, limit: float = 60.0
    ) -> Callable[[], Answer]:
        """A mountkit command of somebody who stands in a directory by now; call it to run it."""
        program = self.work / "mountkit"
        # As the one that pip installs: `python -m` looks into the current directory itself.
        program.write_text("from mountkit.cli import main\nmain()\n")
        self._count += 1
        there, go = (self.gates / f"{word}-{self._count}" for word in ("stands", "goes"))
        wait = f"until [ -e '{go}' ]; do sleep 0.05; done"
        line = f"cd '{place}' && touch '{there}' && {wait} && exec \"$@\""
        job = self.start("sh", "-c", line, "sh", self.python, program, *words, limit=limit)
        self.await_word(there.name, job)

        def answer() -> Answer:
            go.touch()
            return job.wait()

        return answer

    def light(self, *actions: str, target: Path | None = None) -> list[str]:
        """The command line of the light training script."""
        script = str(SCRIPTS / "light.py")
        return [self.python, script, str(target or self.target), str(self.gates), *actions]

    def script(self, *actions: str, target: Path | None = None) -> None:
        """The light training script, outside of ``mountkit run``, to its end."""
        answer = self.start(*self.light(*actions, target=target)).wait()
        assert answer.code == 0, answer

    @property
    def write_back(self) -> bool:
        """Whether a file that was closed waits on this machine until it is uploaded."""
        return backends.load(self.backend).write_back

    @property
    def talkative(self) -> tuple[str, ...]:
        """The most talkative that the daemon can be made."""
        option = "log-level=DEBUG" if self.backend == "rclone" else "debug=true"
        return ("--option", option)

    @property
    def late(self) -> tuple[str, ...]:
        """Keep files in the daemon's queue until mountkit pushes them, where there is a queue."""
        return ("--option", "vfs-write-back=60s") if self.backend == "rclone" else ()

    def how(self, endpoint: str = "") -> list[str]:
        """The options that every mount needs."""
        endpoint = endpoint or self.server.endpoint_url
        return ["--endpoint-url", endpoint, "--backend", self.backend]

    def begin(
        self,
        source: str,
        command: Iterable[str],
        *options: str,
        endpoint: str = "",
        target: Path | None = None,
        limit: float = LIMIT_SECONDS,
        **env: str | None,
    ) -> Job:
        """``mountkit run``, left running."""
        words = [source, str(target or self.target), *self.how(endpoint), *options, "--", *command]
        return self.start(self.python, "-m", "mountkit", "run", *words, limit=limit, **env)

    def run(self, source: str, command: Iterable[str], *options: str, **more: Any) -> Answer:
        """``mountkit run``, to its end."""
        return self.begin(source, command, *options, **more).wait()

    def mount(
        self, source: str, *options: str, endpoint: str = "", target: Path | None = None
    ) -> Answer:
        """``mountkit mount``, which leaves a supervisor behind."""
        words = [source, str(target or self.target), *self.how(endpoint), *options]
        return self.mountkit("mount", *words)

    def umount(self, *options: str, target: Path | None = None, **more: Any) -> Answer:
        return self.mountkit("umount", target or self.target, *options, **more)

    def tools(self, *names: str) -> str:
        """A PATH with only these programs on it."""
        folder = Path(tempfile.mkdtemp(prefix="tools-", dir=self.work))
        for name in names:
            program = shutil.which(name)
            assert program is not None
            (folder / name).symlink_to(program)
        return str(folder)

    def place_program(self, script: str = "") -> tuple[Path, str]:
        """Where the daemon's program is looked for, and the PATH with which it is found.

        It is one of the test's own if ``script`` says what it does, and otherwise the real one,
        which can be taken away.
        """
        path = self.tools("fusermount3")
        self._place_python()
        name = {"rclone": "rclone", "mountpoint": "mount-s3"}[self.backend]
        program = Path(path) / name
        if script:
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        else:
            self.put_program(program)
        return program, path

    def put_program(self, program: Path) -> None:
        """Put the real program at that place."""
        beside = Path(sys.executable).parent
        real = shutil.which(program.name, path=str(beside)) or shutil.which(program.name)
        assert real is not None
        program.symlink_to(real)

    def _place_python(self) -> Path:
        """Use a Python that has nothing beside it: mountkit looks for programs there first."""
        folder = self.work / "python"
        folder.mkdir()
        python = folder / "python"
        python.symlink_to(os.path.realpath(sys.executable))
        self.python = str(python)
        # It does not find the virtual environment by itself any more.
        paths = [str(PACKAGE), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        self.settings["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
        return python

    # Signals between the test and its scripts

    def await_word(self, name: str, job: Job, limit: float = 60.0) -> None:
        """Wait until the script says ``name``; a job that ends before that is a failure."""

        def said() -> bool:
            if (self.gates / name).exists():
                return True
            assert not job.ended(), f"The job ended before it said {name}:\n{job.wait()}"
            return False

        eventually(said, f"said {name}", limit)

    def await_text(self, text: str, job: Job) -> None:
        """Wait until the job has said ``text`` on stderr; one that ends before is a failure."""

        def said() -> bool:
            if text in job.err:
                return True
            assert not job.ended(), f"The job ended before it said {text!r}:\n{job.wait()}"
            return False

        eventually(said, f"told {text!r}")

    def say(self, name: str) -> None:
        (self.gates / name).touch()

    # What there is

    def record(self, target: Path | None = None) -> MountRecord | None:
        return State(self.state).at(str(target or self.target))

    def daemon(self, target: Path | None = None) -> psutil.Process:
        """The daemon of the mount at the target."""
        record = self.record(target)
        assert record is not None
        assert record.daemon is not None
        return psutil.Process(record.daemon.pid)

    def supervisor(self, target: Path | None = None) -> psutil.Process:
        record = self.record(target)
        assert record is not None
        return psutil.Process(record.supervisor.pid)

    def take_away(self, place: Path) -> None:
        """All of it at once: a daemon may be writing there. It goes with the rest of the test."""
        place.rename(self.work / f"taken-{uuid.uuid4().hex}")

    def kill(self, process: psutil.Process) -> None:
        """SIGKILL, and see it end."""
        process.send_signal(signal.SIGKILL)
        eventually(lambda: self.gone(process), "killed", 10)

    def gone(self, process: psutil.Process) -> bool:
        """Whether it has ended, also where nobody has waited for it yet."""
        # It may end between the two questions.
        with contextlib.suppress(psutil.NoSuchProcess):
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        return True

    def await_remount(self, number: int = 1) -> None:
        """Wait until the supervisor has remounted that many times, and the mount serves."""

        def served() -> bool:
            record = self.record()
            assert record is None or record.state != FAILED, record
            return record is not None and record.remounts >= number and record.state == SERVING

        eventually(served, f"remounted {number} times")

    def mounts(self) -> list[str]:
        """What is mounted below this test's directory."""
        inside = f"{self.work}/"
        return [entry.target for entry in mount_table.read() if entry.target.startswith(inside)]

    def inside(self, path: str) -> bool:
        """Whether a path lies in the mount."""
        return path.startswith(f"{self.target}/")

    def words(self, process: psutil.Process) -> str:
        """Its command line; empty once it is gone."""
        with contextlib.suppress(psutil.Error):
            return " ".join(process.cmdline())
        return ""

    def processes(self) -> dict[psutil.Process, str]:
        """What this test has started and still runs, by its directory's name."""
        found = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                words = " ".join(process.cmdline())
                if str(self.work) in words or str(self.work) in " ".join(
                    process.environ().values()
                ):
                    found[process] = f"{process.pid} {words}"
        return found

    def pending(self) -> int:
        """How many files the daemon has not uploaded yet, by its own word."""
        told = self.mountkit("status", self.target, "--format", "json")
        assert told.code == 0, told
        [mount] = told.json["mounts"]
        return mount["pending_files"]

    # The end

    def left(self) -> list[str]:
        """What is still mounted or running, after everything had time to end."""
        psutil.wait_procs(list(self.processes()), timeout=END_SECONDS)
        return [f"mounted: {target}" for target in self.mounts()] + [
            f"running: {words}" for words in self.processes().values()
        ]

    def sweep(self) -> None:
        """Take away whatever is left, and the directories."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for target in reversed(self.mounts()):
            subprocess.run(["fusermount3", "-uz", target], check=False, timeout=10)
        for gate in self._gates:
            gate.close()
        # Never through a mount that is still in it.
        if not self.mounts():
            shutil.rmtree(self.work, ignore_errors=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)
