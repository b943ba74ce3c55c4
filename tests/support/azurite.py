"""Azure Blob Storage on loopback: Azurite, with an account and a key of its own."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from support.remotes import await_port, free_port

if TYPE_CHECKING:
    from pathlib import Path

CONTAINER = "bucket"
ACCOUNT = "training"


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(64)).decode()


@dataclass
class Azurite:
    folder: Path
    binary: str
    port: int = field(default_factory=free_port)
    key: str = field(default_factory=new_key)

    def __enter__(self) -> Self:
        self.start()
        self.client(CONTAINER).create_container()
        return self

    def start(self) -> None:
        argv = [self.binary, "--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        argv += ["--location", str(self.folder), "--disableTelemetry", "--skipApiVersionCheck"]
        env = {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{self.key}"}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*argv, "--silent"], env=env, stdout=log, stderr=log, start_new_session=True
            )
        await_port(self.port, self._process)

    def stop(self) -> None:
        # Asked to end, it writes down what it has.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    def connection_string(self, key: str = "") -> str:
        parts = ["DefaultEndpointsProtocol=http", f"AccountName={ACCOUNT}"]
        return ";".join([*parts, f"AccountKey={key or self.key}", f"BlobEndpoint={self.url}"])

    def client(self, container: str) -> Any:
        """Azure's own client."""
        from azure.storage.blob import ContainerClient

        return ContainerClient.from_connection_string(self.connection_string(), container)

    def rotate(self) -> None:
        """Another key from now on."""
        self.stop()
        self.key = new_key()
        self.start()


def find() -> str | None:
    return shutil.which("azurite-blob")
