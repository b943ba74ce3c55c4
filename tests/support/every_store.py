"""Every store that rclone mounts, for the tests that each of them has to pass.

A store is a server that can go away and come back, places on it, and what is in a place as its own
client sees it. One more is a class here, and a line in ``KINDS``.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from mountkit.linux import mount_table
from mountkit.names import LEASE_NAME, PROBE_NAME
from mountkit.store.remote import rcd
from support import azurite, clouds, in_process, remotes
from support.assertions import crc64
from support.rig import MANIFEST, Answer, Rig, assert_same, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager


CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"


class Kind(Protocol):
    """A store that serves."""

    #: What leads to it, and the same with credentials that are not its own.
    environment: dict[str, str]
    wrong: dict[str, str]
    #: Where nothing is that could hold a checkpoint.
    missing: str
    #: What nobody may see.
    secrets: list[str]

    def url(self, prefix: str) -> str: ...
    def wrong_url(self, prefix: str) -> str: ...
    def objects(self, prefix: str) -> dict[str, bytes]: ...
    def put(self, path: str, data: bytes) -> None: ...
    def stop(self) -> None: ...
    def start(self) -> None: ...


class Directory:
    """A remote of rclone: what is stored is a directory of its server's."""

    def __init__(self, server: remotes.Sftp | remotes.WebDav) -> None:
        self.server = server
        self.config = remotes.configure(server)
        self.environment = {"RCLONE_CONFIG": str(self.config)}
        self.wrong: dict[str, str] = {}
        self.missing = "rclone://nobody-has-made-it/run"
        self.start, self.stop = server.start, server.stop

    @property
    def secrets(self) -> list[str]:
        server = self.server
        if isinstance(server, remotes.Sftp):
            return [server.secret()]
        return [server.password, self.config.read_text().partition("pass = ")[2].split()[0]]

    def url(self, prefix: str) -> str:
        return f"rclone://{self.server.name}/{self._top}{prefix}"

    def wrong_url(self, prefix: str) -> str:
        return f"rclone://stranger/{self._top}{prefix}"

    @property
    def _top(self) -> str:
        return f"{self.server.data}/" if getattr(self.server, "absolute", False) else ""

    def objects(self, prefix: str) -> dict[str, bytes]:
        top = self.server.data / prefix
        found = {}
        for folder, _, names in os.walk(top):
            for name in names:
                path = Path(folder) / name
                with contextlib.suppress(FileNotFoundError):
                    found[path.relative_to(top).as_posix()] = path.read_bytes()
        return found

    def put(self, path: str, data: bytes) -> None:
        place = self.server.data / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


class WithPassword(Directory):
    """A server whose password can be changed."""

    #: The key is in a file, which a supervisor reads anew.
    by_environment = False

    def rotate(self) -> Callable[[], dict[str, str]]:
        """Change it on the server; call what comes back to take it up here."""
        assert isinstance(self.server, remotes.WebDav)
        self.server.rotate()

        def take_up() -> dict[str, str]:
            remotes.configure(self.server)
            return {}

        return take_up


class OfTheMachine(Directory):
    """A directory of this machine, on a file system whose server can stop to answer."""

    def __init__(self, server: remotes.Sftp, mounted: Path) -> None:
        self.server, self.mounted = server, mounted
        self.environment, self.wrong = {}, {}
        self._made: set[str] = set()
        self.missing = f"file://{mounted}/nobody-has-made-it/run"

    def url(self, prefix: str) -> str:
        if prefix not in self._made:
            (self.mounted / prefix).parent.mkdir(parents=True, exist_ok=True)
            # Not once more: its server may be stopped by then.
            self._made.add(prefix)
        return f"file://{self.mounted}/{prefix}"

    def wrong_url(self, prefix: str) -> str:
        return f"{self.url(prefix)}/not-made-by-anybody/run"

    @property
    def secrets(self) -> list[str]:
        return []

    def put(self, path: str, data: bytes) -> None:
        # By the file system itself, so that it knows of it.
        (self.mounted / path).write_bytes(data)

    def stop(self) -> None:
        """As NFS waits for its server."""
        self._signal(signal.SIGSTOP)

    def start(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for process in self.server.connections():
            process.send_signal(number)


class Azure:
    """A container: what is stored is seen, and altered, by Azure's own client."""

    #: The key is in the environment, which a supervisor keeps as it was.
    by_environment = True
    missing = "az://nobody-has-made-it/run"

    def __init__(self, server: azurite.Azurite) -> None:
        self.server = server
        self.wrong = {CONNECTION: server.connection_string(azurite.new_key())}
        self.start, self.stop = server.start, server.stop

    @property
    def environment(self) -> dict[str, str]:
        return {CONNECTION: self.server.connection_string()}

    @property
    def secrets(self) -> list[str]:
        return [self.server.key]

    def url(self, prefix: str) -> str:
        return f"az://{azurite.CONTAINER}/{prefix}"

    wrong_url = url

    def objects(self, prefix: str) -> dict[str, bytes]:
        from azure.core.exceptions import ResourceNotFoundError

        client = self.server.client(azurite.CONTAINER)
        found = {}
        for blob in client.list_blobs(name_starts_with=f"{prefix}/"):
            # Others take objects away meanwhile.
            with contextlib.suppress(ResourceNotFoundError):
                found[blob.name[len(prefix) + 1 :]] = client.download_blob(blob.name).readall()
        return found

    def put(self, path: str, data: bytes) -> None:
        self.server.client(azurite.CONTAINER).upload_blob(path, data, overwrite=True)

    def rotate(self) -> Callable[[], dict[str, str]]:
        self.server.rotate()
        return lambda: self.environment


@dataclass
class Place:
    """One test's own prefix; see ``support.rig.Bucket``."""

    kind: Kind
    prefix: str = field(default_factory=lambda: f"r-{uuid.uuid4().hex[:10]}")

    @property
    def url(self) -> str:
        return self.kind.url(f"{self.prefix}/run")

    def files(self, below: str = "") -> dict[str, bytes]:
        """What was saved, without what mountkit writes beside it."""
        place = f"{self.prefix}/run/{below}".rstrip("/")
        return {
            path: data
            for path, data in self.kind.objects(place).items()
            if path.rpartition("/")[2] not in {MANIFEST, LEASE_NAME} and PROBE_NAME not in path
        }

    def manifest(self, checkpoint: str) -> Any:
        data = self.kind.objects(f"{self.prefix}/run/{checkpoint}").get(MANIFEST)
        return None if data is None else json.loads(data)

    def assert_proven(self, name: str, expected: Mapping[str, bytes]) -> None:
        """It is there byte for byte, by the store's own client, and the manifest says so."""
        assert_same(self.files(name), expected)
        manifest = self.manifest(name)
        assert manifest is not None, f"{name} has no manifest"
        listed = {entry["path"]: (entry["size"], entry["crc64nvme"]) for entry in manifest["files"]}
        assert listed == {path: (len(data), crc64(data)) for path, data in expected.items()}

    def flip(self, path: str) -> None:
        """Change one bit."""
        data = bytearray(self.files()[path])
        data[len(data) // 2] ^= 1
        self.kind.put(f"{self.prefix}/run/{path}", bytes(data))

    def truncate(self, path: str) -> None:
        self.kind.put(f"{self.prefix}/run/{path}", self.files()[path][:-1])


@dataclass(frozen=True)
class NoServer:
    """A rig is made for a store that speaks S3; these have nothing of it."""

    access_key: str = ""
    secret_key: str = ""
    endpoint_url: str = ""


@dataclass
class StoreRig(Rig):
    """A rig over such a store."""

    kind: Any = None

    @classmethod
    def over(cls, kind: Kind) -> StoreRig:
        rig = cls.make("rclone", NoServer())  # type: ignore[arg-type]
        assert isinstance(rig, StoreRig)
        rig.kind = kind
        rig.settings.update(kind.environment)
        return rig

    def how(self, endpoint: str = "") -> list[str]:
        return ["--backend", self.backend] if self.backend else []

    def ask(self, command: str, url: str, *options: str) -> Answer:
        words = (command, url, *options)
        began = time.monotonic()
        code, out, err = in_process.invoke(words, self.environment())
        return Answer(("mountkit", *words), code, out, err, time.monotonic() - began)


@contextlib.contextmanager
def leaving_nothing(rig: StoreRig) -> Iterator[None]:
    """Take away what a test has left, and fail it for that."""
    yield
    # Those of this process, for what was asked in it.
    rcd.end_all()
    left = rig.left()
    rig.sweep()
    assert not left, "The test left behind: " + "; ".join(left)


@contextlib.contextmanager
def sftp(folder: Path) -> Iterator[Kind]:
    sshd = remotes.find_sshd()
    if sshd is None:
        pytest.skip("sshd is not there: apt-get install openssh-server")
    with remotes.Sftp(folder, sshd, absolute=True) as served:
        yield Directory(served)


@contextlib.contextmanager
def webdav(folder: Path) -> Iterator[Kind]:
    pytest.importorskip("wsgidav", reason="wsgidav is not installed")
    with remotes.WebDav(folder) as served:
        yield WithPassword(served)


@contextlib.contextmanager
def az(folder: Path) -> Iterator[Kind]:
    pytest.importorskip("azure.storage.blob", reason="azure-storage-blob is not installed")
    binary = azurite.find()
    if binary is None:
        pytest.skip("azurite-blob is not there: install npm for `make test` to fetch it")
    with azurite.Azurite(folder, binary) as served:
        yield Azure(served)


@contextlib.contextmanager
def file(folder: Path) -> Iterator[Kind]:
    """A directory of an sshd's, mounted: what is synced there is synced by the server."""
    sshd = remotes.find_sshd()
    if sshd is None or shutil.which("sshfs") is None:
        pytest.skip("sshd or sshfs is not there: apt-get install openssh-server sshfs")
    mounted = folder / "mounted"
    mounted.mkdir()
    with remotes.Sftp(folder, sshd, absolute=True) as served:
        ssh = {
            "Port": served.port,
            "IdentityFile": folder / "user",
            "UserKnownHostsFile": folder / "known_hosts",
            "IdentitiesOnly": "yes",
        }
        options = [f"-o{name}={value}" for name, value in ssh.items()]
        # What a test changes on the server is seen at once.
        options += ["-odir_cache=no", "-oattr_timeout=0", "-oentry_timeout=0", "-odirect_io"]
        place = f"{getpass.getuser()}@127.0.0.1:{served.data}"
        words = ["setpriv", "--pdeathsig=KILL", "sshfs", "-f", place, str(mounted), *options]
        with (folder / "sshfs.log").open("wb") as log:
            daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            eventually(lambda: mount_table.at(str(mounted)), "mounted")
            yield OfTheMachine(served, mounted)
        finally:
            daemon.kill()
            daemon.wait()
            subprocess.run(["fusermount3", "-uzq", str(mounted)], check=False, timeout=10)


KINDS: Mapping[str, Callable[[Path], AbstractContextManager[Kind]]] = {
    "sftp": sftp,
    "webdav": webdav,
    "az": az,
    "gs": clouds.gs,
    "hdfs": clouds.hdfs,
    "file": file,
}
