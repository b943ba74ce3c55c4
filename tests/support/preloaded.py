"""A process that has torch and transformers loaded, and forks for each script that needs them.

Loading them takes more processor time than most tests have to spare. All workers of a run share
one such process, which ends when the last of them does. ``fuse/scripts/forked.py`` is what mountkit
runs in the script's place; what is about the start of a Python is tested with a real one.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CLIENT = Path(__file__).resolve().parents[1] / "fuse" / "scripts" / "forked.py"
# In this order, as train.py has them; and what it or mountkit would load in the course of a run.
MODULES = (
    "torch",
    "transformers.trainer",
    "transformers.models.gpt2.modeling_gpt2",
    "safetensors.torch",
    "botocore.session",
    "msgspec",
)
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"alone-{os.getpid()}"
LOAD_SECONDS = 200.0
FIRST_LEASE_SECONDS = 60.0
# What a tester's connection begins with instead of the length of a request.
LEASE = b"test"


# On the tests' side


def command(python: str, script: Path, words: Sequence[str]) -> list[str]:
    """The command line that runs a script in a fork."""
    return [python, "-S", str(CLIENT), address(), str(script), *words]


def program(python: str, folder: Path, text: str, words: Sequence[str]) -> list[str]:
    """The same for the text of a script, which is kept in ``folder``."""
    script = folder / "program.py"
    script.write_text(text)
    return command(python, script, words)


@functools.cache
def address() -> str:
    """Where it listens; it is started if no other worker of this run has done so."""
    from filelock import FileLock

    place = Path(tempfile.gettempdir()) / f"mk-loaded-{RUN}"
    place.mkdir(mode=0o700, exist_ok=True)
    with FileLock(place / "lock", timeout=LOAD_SECONDS):
        if not (place / "socket").exists():
            _start(place)
        _lease(place)
    return str(place / "socket")


def _start(place: Path) -> None:
    # It is no daemon of the test that happens to be the first.
    env = {name: value for name, value in os.environ.items() if name != "MOUNTKIT_TEST_RUN"}
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, str(place)],
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + LOAD_SECONDS
    while not (place / "socket").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise AssertionError(f"torch was not loaded: {(place / 'log').read_text()}")
        time.sleep(0.05)


@functools.cache
def _lease(place: Path) -> socket.socket:
    """Kept open, cached here, until this process ends."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(place / "socket"))
    connection.sendall(LEASE)
    return connection


# On its own side


@dataclass(frozen=True)
class Request:
    """A script to run, and what its process is to have."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    streams: list[int]


class Server:
    """Forks for requests, passes signals on and tells the end of each; one thread."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._selector = selectors.DefaultSelector()
        self._leases: set[socket.socket] = set()
        self._scripts: dict[int, socket.socket] = {}
        self._until: float | None = time.monotonic() + FIRST_LEASE_SECONDS

    def serve(self) -> Request | None:
        """Return in each fork what it has to run, and None in this process, in the end."""
        self._ended, told = socket.socketpair()
        for end in (self._ended, told):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(told.fileno())
        self._told = told
        self._listener = socket.socket(socket.AF_UNIX)
        # Whoever sees it can connect to it.
        self._listener.bind(str(self._place / "binding"))
        self._listener.listen(64)
        (self._place / "binding").rename(self._place / "socket")
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._ended, selectors.EVENT_READ)
        while self._leases or (self._until and time.monotonic() < self._until):
            for key, _ in self._selector.select(1.0):
                if key.fileobj is self._listener:
                    if (request := self._accept()) is not None:
                        return request
                elif key.fileobj is self._ended:
                    self._reap()
                else:
                    self._hear(key.fileobj)
        for pid in self._scripts:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self._place, ignore_errors=True)
        return None

    def _accept(self) -> Request | None:
        connection, _ = self._listener.accept()
        connection.settimeout(10)
        head, streams, _, _ = socket.recv_fds(connection, 4, 3)
        if head == LEASE:
            self._leases.add(connection)
            self._until = None
        elif len(head) == 4:
            content = b""
            length = int.from_bytes(head, "big")
            while len(content) < length and (part := connection.recv(length - len(content))):
                content += part
            if len(content) == length:
                request = Request(**json.loads(content), streams=streams)
                pid = os.fork()
                if pid == 0:
                    connection.close()
                    self._leave()
                    return request
                self._scripts[pid] = connection
        for stream in streams:
            os.close(stream)
        self._selector.register(connection, selectors.EVENT_READ)
        return None

    def _leave(self) -> None:
        """In a fork: nothing of this server is left."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        os.setsid()
        others = [self._listener, self._ended, self._told, *self._leases, *self._scripts.values()]
        for connection in others:
            connection.close()

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._ended.recv(4096)
        for pid, connection in list(self._scripts.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self._scripts[pid]
                # The client may have been killed.
                with contextlib.suppress(OSError):
                    connection.sendall(status.to_bytes(4, "big"))
                self._drop(connection)

    def _hear(self, connection: socket.socket) -> None:
        """A signal for a script; or its client, or a worker, is gone."""
        pid = next((pid for pid, one in self._scripts.items() if one is connection), None)
        try:
            told = connection.recv(64)
        except OSError:
            told = b""
        for number in told if pid is not None else b"":
            os.kill(pid, number)
        if not told:
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._leases.discard(connection)
        # Where the client was killed it was dropped before its script has ended.
        if connection.fileno() >= 0:
            self._selector.unregister(connection)
            connection.close()


def become(request: Request) -> None:
    """Take on what a Python that is started for this script would have."""
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.env)
    time.tzset()
    sys.argv = request.argv
    paths = [path for path in request.env.get("PYTHONPATH", "").split(os.pathsep) if path]
    here = str(Path(__file__).parent)
    sys.path[:] = [
        str(Path(request.argv[0]).parent),
        *paths,
        *(path for path in sys.path if path not in {here, *paths}),
    ]
    # As at the start of a Python: mountkit's is found before all others.
    sys.modules.pop("sitecustomize", None)
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")


def run(script: str) -> None:
    """Run it, and end as an interpreter does, without taking apart what was loaded before."""
    code: object = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        code = end.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException as error:  # noqa: BLE001 - as an interpreter tells it, also of an interrupt
        sys.excepthook(type(error), error, error.__traceback__)
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(int(code or 0) & 0xFF)


def main() -> None:
    for module in MODULES:
        importlib.import_module(module)
    # What every fork would go through again, and copy by that.
    gc.freeze()
    request = Server(Path(sys.argv[1])).serve()
    if request is not None:
        become(request)
        run(request.argv[0])


if __name__ == "__main__":
    main()
