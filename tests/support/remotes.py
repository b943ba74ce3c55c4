"""Servers for remotes of rclone, on loopback: an sshd with keys of its own, and a WebDAV server.

Each serves one directory, in which a test looks and alters what is stored.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

START_SECONDS = 20
NOBODY = 1  # tcpmux: nobody listens there


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def await_port(port: int, alive: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert alive is None or alive.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server does not listen"
        time.sleep(0.05)


def obscured(word: str) -> str:
    """A password as rclone keeps it in its configuration."""
    beside = Path(sys.executable).parent / "rclone"
    program = str(beside) if beside.exists() else "rclone"
    done = subprocess.run(
        [program, "obscure", "-"], input=word, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@dataclass
class Sftp:
    """``sshd`` in the foreground, for the user of the tests, with one key that it lets in."""

    folder: Path
    sshd: str
    #: Whether a test names its places from the root of the server.
    absolute: bool = False
    name: str = "nas"
    port: int = field(default_factory=free_port)

    def __enter__(self) -> Self:
        self.data = self.folder / "data"
        self.data.mkdir(exist_ok=True)
        for name in ("host", "user", "stranger"):
            self._make_key(name)
        (self.folder / "authorized").write_text((self.folder / "user.pub").read_text())
        (self.folder / "known_hosts").write_text(
            f"[127.0.0.1]:{self.port} {(self.folder / 'host.pub').read_text()}"
        )
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder / 'host'}\n"
            f"AuthorizedKeysFile {self.folder / 'authorized'}\nPidFile none\nUsePAM no\n"
            "StrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
            "MaxStartups 100\nMaxSessions 100\n"
            f'Subsystem sftp internal-sftp -d "{self.data}"\n'
        )
        config.chmod(0o600)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True, mode=0o755)
        self.start()
        return self

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            argv = [self.sshd, "-D", "-e", "-f", str(self.folder / "sshd_config")]
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        await_port(self.port, self._process)

    def stop(self) -> None:
        """End it, and with it the connections that there are."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        for process in self.connections():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def connections(self) -> list[psutil.Process]:
        """Each is a session of its own."""
        found = []
        for process in psutil.process_iter(["name"]):
            with contextlib.suppress(psutil.Error):
                if process.info["name"] == "sshd" and self.port in {
                    each.laddr.port for each in process.net_connections("tcp")
                }:
                    found.append(process)
        return found

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _make_key(self, name: str) -> None:
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
        subprocess.run(words, check=True)

    def key(self, name: str = "user") -> str:
        """A private key on one line, as rclone's configuration has it."""
        return (self.folder / name).read_text().replace("\n", "\\n")

    def secret(self, name: str = "user") -> str:
        """What of a key nobody may see."""
        return (self.folder / name).read_text().splitlines()[2]

    def remote(self, *, port: int | None = None, key: str = "user") -> Mapping[str, str]:
        """The remote, as rclone's configuration has it."""
        return {
            "type": "sftp",
            "host": "127.0.0.1",
            "port": str(port or self.port),
            "user": getpass.getuser(),
            "key_pem": self.key(key),
            "known_hosts_file": str(self.folder / "known_hosts"),
            # Commands begin in another directory than files do.
            **({} if self.absolute else {"path_override": str(self.data)}),
        }

    def wrong(self) -> Mapping[str, str]:
        return self.remote(key="stranger")

    def read_only(self, path: str) -> None:
        """Nobody is root to such a flag."""
        self._flag("+i", path)

    def writable(self, path: str) -> None:
        self._flag("-i", path)

    def _flag(self, how: str, path: str) -> None:
        subprocess.run(["chattr", how, str(self.data / path)], check=True)


@dataclass
class WebDav:
    """wsgidav in a thread, with a user and a password that can be changed."""

    folder: Path
    name: str = "dav"
    port: int = field(default_factory=free_port)
    user: str = "training"
    password: str = field(default_factory=lambda: secrets.token_hex(12))

    def __enter__(self) -> Self:
        self.data = self.folder / "data"
        self.data.mkdir(exist_ok=True)
        self.start()
        return self

    def start(self) -> None:
        from cheroot import wsgi
        from wsgidav.wsgidav_app import WsgiDAVApp

        self._known = {self.user: {"password": self.password}}
        application = WsgiDAVApp(
            {
                "provider_mapping": {"/": str(self.data)},
                "simple_dc": {"user_mapping": {"*": self._known}},
                "http_authenticator": {"accept_basic": True, "accept_digest": False},
                "verbose": 0,
                "logging": {"enable": False},
                "hotfixes": {},
                "lock_storage": False,
                "property_manager": False,
            }
        )
        self._server = wsgi.Server(("127.0.0.1", self.port), application, numthreads=8)
        threading.Thread(target=self._server.safe_start, daemon=True).start()
        await_port(self.port)

    def stop(self) -> None:
        self._server.stop()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def rotate(self) -> None:
        """Another password from now on."""
        self.password = secrets.token_hex(12)
        self._known[self.user]["password"] = self.password

    def remote(self, *, port: int | None = None, password: str = "") -> Mapping[str, str]:
        return {
            "type": "webdav",
            "url": f"http://127.0.0.1:{port or self.port}",
            "vendor": "other",
            "user": self.user,
            "pass": obscured(password or self.password),
        }

    def wrong(self) -> Mapping[str, str]:
        return self.remote(password="not-the-password")


def write_configuration(path: Path, remotes: Mapping[str, Mapping[str, str]]) -> Path:
    lines = []
    for name, values in remotes.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {value}" for key, value in values.items()]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return path


def configure(server: Sftp | WebDav) -> Path:
    """A configuration with the remote of a server, one with wrong credentials, and one away."""
    return write_configuration(
        server.folder / "rclone.conf",
        {
            server.name: server.remote(),
            "stranger": server.wrong(),
            "away": server.remote(port=NOBODY),
        },
    )


def find_sshd() -> str | None:
    """The server's program: not on everybody's PATH."""
    return shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
