"""The Versity S3 gateway over a directory: a store that returns full-object checksums."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing import Self

# Where it keeps uploads that are under way, below each bucket.
PRIVATE = ".sgwtmp"
LIMIT_SECONDS = 20.0


def program() -> str:
    """The gateway on the PATH; a test that finds none is skipped."""
    return shutil.which("versitygw") or pytest.skip(
        "versitygw is not there: install it, or Go for `make test` to build it"
    )


class Versity:
    """``versitygw posix`` on a free port of 127.0.0.1, as a context manager.

    Offers what :class:`mountkit.demo.s3_server.EmbeddedS3` does. Its buckets are directories too,
    but what is changed in them behind its back keeps the checksums it had.
    """

    def __init__(self, data: Path, binary: str, *options: str) -> None:
        self.data = data
        self._options = options
        self.access_key = f"mountkit{secrets.token_hex(6)}"
        self.secret_key = secrets.token_hex(20)
        self.endpoint_url = ""
        self._binary = binary
        self._log = Path(tempfile.mkdtemp(prefix="mountkit-vgw-")) / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid if self._process else 0

    def environment(self) -> dict[str, str]:
        """Variables with which a client is let in; where the server is has to be said beside."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> Self:
        from support.rig import eventually

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.data.mkdir(parents=True, exist_ok=True)
        env = {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._binary,
                    *("--port", f"127.0.0.1:{port}", *self._options),
                    *("posix", str(self.data)),
                ],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.endpoint_url = f"http://127.0.0.1:{port}"

        def serves() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        eventually(serves, "serving", LIMIT_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._log.parent, ignore_errors=True)
