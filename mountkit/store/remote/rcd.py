"""An rclone of this process's own, asked over a private socket; it ends with the process.

``rclone rcd`` answers calls of its remote control, and with ``--rc-serve`` it serves every file of
its remote. Its configuration is in memory, and its socket has no name: once rclone listens, the
name is taken away, and the socket is reached by the descriptor that is kept of it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mountkit.errors import MountUnavailableError
from mountkit.linux import bound
from mountkit.linux.daemon import in_memory
from mountkit.store.remote import configuration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.store.remote.configuration import Remote

START_SECONDS = 10.0
# Whoever made such a directory has come up, or given up, long before that.
FOLDER, STALE_SECONDS = "mountkit-rc-", 120.0
POLL_SECONDS = 0.01
SAID_BYTES = 4096
# What a remote may need beside its configuration: the network, and the agent of ssh.
VARIABLES = frozenset(
    {
        "PATH", "HOME", "USER", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK",
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
        "MOUNTKIT_TEST_RUN",
    }
)  # fmt: skip
FLAGS = (
    "--rc-no-auth",
    "--rc-serve",
    "--config=/dev/fd/0",
    # Whoever asks tries again, and knows better for how long.
    "--retries=1",
    "--low-level-retries=2",
    "--contimeout=5s",
    "--timeout=30s",
    "--no-unicode-normalization",
    # What is written here is read back, which says more than a hash, and takes less time.
    "--ignore-checksum",
    # What is put in the place of a file replaces it. rclone would take one of the same size, and of
    # the same second or where the store keeps no times, for the same file, and drop the new one.
    "--ignore-times",
    "--log-level=ERROR",
)


class CallError(Exception):
    """What rclone answered instead of what it was asked for; ``status`` is that of HTTP."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Rcd:
    """One rclone that answers. Ended when nobody has it any more."""

    def __init__(self, remote: Remote) -> None:
        output = os.memfd_create("rclone")
        # Nothing of it is worth anything after this process: it may well lie on a small disk.
        _sweep(Path(tempfile.gettempdir()))
        folder = tempfile.mkdtemp(prefix=FOLDER)
        path = Path(folder) / "socket"
        stdin = in_memory(remote.text)
        try:
            words = [configuration.program(), "rcd", f"--rc-addr=unix://{path}", *FLAGS]
            env = {name: os.environ[name] for name in VARIABLES if name in os.environ}
            process = bound.start(words, env, stdin, output)
            try:
                self._socket = _await(process, path, output, remote)
            except BaseException:
                process.kill()
                process.wait()
                raise
        except OSError as error:
            raise MountUnavailableError(
                f"rclone cannot be started to ask {remote.name!r}: {error}.",
                hint="Try: rclone version",
            ) from error
        finally:
            for descriptor in (stdin, output):
                os.close(descriptor)
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
        self._process = process
        self._end = weakref.finalize(self, _end, process, self._socket, os.getpid())

    @property
    def pid(self) -> int:
        """Of the process that ends with this one, and rclone with it."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still answers, as far as is known."""
        return self._process.poll() is None

    def ends(self, seconds: float) -> bool:
        """Whether it ends within that time: one that is killed closes its sockets before that."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """End it now."""
        self._end()

    def connect(self, seconds: float) -> http.client.HTTPConnection:
        """A connection of which no single wait is longer than ``seconds``."""
        return _Connection(f"/proc/self/fd/{self._socket}", seconds)

    def call(self, method: str, seconds: float, **parameters: Any) -> Mapping[str, Any]:
        """One call, such as ``operations/list``, and the object it answers.

        Raises CallError if rclone answers with an error; OSError or HTTPException if it does not
        answer.
        """
        body = json.dumps(parameters)
        return self.post(f"/{method}", body.encode(), "application/json", seconds)

    def post(self, path: str, body: bytes, kind: str, seconds: float) -> Mapping[str, Any]:
        """Send a body of some kind; see ``call``."""
        connection = self.connect(seconds)
        try:
            connection.request("POST", path, body, {"Content-Type": kind})
            response = connection.getresponse()
            answer = parsed(response.read())
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise CallError(str(answer.get("error") or response.reason), response.status)
        return answer


def _sweep(top: Path) -> None:
    """Remove what a process left that was killed while it waited for its rclone to listen."""
    for folder in top.glob(f"{FOLDER}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > STALE_SECONDS:
                (folder / "socket").unlink(missing_ok=True)
                folder.rmdir()


def parsed(body: bytes) -> Mapping[str, Any]:
    """The object that an answer is, or an error with its first words."""
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        found = None
    return (
        found if isinstance(found, dict) else {"error": body[:SAID_BYTES].decode(errors="replace")}
    )


def _await(process: subprocess.Popen[bytes], path: Path, output: int, remote: Remote) -> int:
    """A descriptor of the socket, once rclone listens there."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            return os.open(path, os.O_PATH | os.O_CLOEXEC)
        time.sleep(POLL_SECONDS)
    said = os.pread(output, SAID_BYTES, max(0, os.fstat(output).st_size - SAID_BYTES))
    lines = said.decode(errors="replace").strip().splitlines()
    why = remote.without_secrets(lines[-1]) if lines else "it does not say why"
    raise MountUnavailableError(
        f"rclone does not answer for {remote.name!r} within {START_SECONDS:.0f} s: {why}",
        hint=f"Try: rclone lsf {remote.name}:",
    )


def _end(process: subprocess.Popen[bytes], descriptor: int, owner: int) -> None:
    # A process that was forked has its own, and never ends that of its parent.
    if os.getpid() == owner:
        process.kill()
        process.wait()
    os.close(descriptor)


class _Running:
    """The one of each remote in this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pid = os.getpid()
        self.known: dict[str, tuple[str, Rcd]] = {}


_running = _Running()


def of(remote: Remote) -> Rcd:
    """The one for a remote, started if there is none, or if its configuration is another by now.

    Raises MountUnavailableError if it does not come up.
    """
    with _running.lock:
        text = remote.text
        before, found = _running.known.get(remote.name, ("", None))
        if found is None or before != text or not found.alive:
            found = Rcd(remote)
            _running.known[remote.name] = (text, found)
        return found


def end_all() -> None:
    """End those of this process before its own end; the next question starts another."""
    with _running.lock:
        for _, running in _running.known.values():
            running.end()
        _running.known.clear()


def _forked() -> None:
    """The child has none of its own yet, and may not take the parent's with it when it ends."""
    global _running  # noqa: PLW0603 - the lock may be held by a thread that is not here
    _inherited.append(_running)
    _running = _Running()


#: What a forked process has of its parent, which is never ended there.
_inherited: list[_Running] = []
os.register_at_fork(after_in_child=_forked)
