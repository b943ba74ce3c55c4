"""An S3 server on this machine, out of the rclone binary: for demonstrations and tests."""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.errors import MountUnavailableError, UsageError
from mountkit.linux.daemon import Daemon
from mountkit.timing import wait_until

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Self

READY_SECONDS = 15.0
POLL_SECONDS = 0.02
REGION = "us-east-1"

_LISTENING = re.compile(r"Starting s3 server on \[(http://[^\]]+?)/?\]")
_WORD = re.compile(r"[A-Za-z0-9_/+=-]{3,}")


class EmbeddedS3:
    """``rclone serve s3`` over a directory, on a free port of 127.0.0.1, as a context manager.

    Parameters
    ----------
    data:
        The directory whose sub-directories are the buckets. None for one that goes with the server.
    buckets:
        Buckets to make.
    binary:
        The path of the rclone to run.
    access_key, secret_key:
        The only key pair it accepts; random if not given. Never on a command line.
    read_only:
        Refuse every write.
    ready_seconds:
        How long to wait until it serves.

    Raises UsageError if a key has characters that cannot be handed over; MountUnavailableError,
    from ``start``, if it cannot be started or does not serve in time.
    """

    def __init__(
        self,
        data: str | os.PathLike[str] | None = None,
        *,
        buckets: Sequence[str] = (),
        binary: str,
        access_key: str | None = None,
        secret_key: str | None = None,
        read_only: bool = False,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        self.access_key = access_key or f"mountkit{secrets.token_hex(6)}"
        self.secret_key = secret_key or secrets.token_hex(20)
        if not _WORD.fullmatch(self.access_key) or not _WORD.fullmatch(self.secret_key):
            raise UsageError(
                "A key of the embedded S3 server needs 3 or more of A-Z, a-z, 0-9 and _/+=-.",
                hint="Leave the keys out; random ones are made then.",
            )
        self.read_only = read_only
        self._ready_seconds = ready_seconds
        self.endpoint_url = ""
        self._binary = binary
        self._buckets = tuple(buckets)
        self._given = Path(data) if data is not None else None
        self._private: Path | None = None
        self._daemon: Daemon | None = None

    @property
    def data(self) -> Path:
        """The directory that holds the buckets."""
        if self._given is not None:
            return self._given
        return self._home() / "data"

    @property
    def pid(self) -> int:
        """The server's process, 0 if it does not run."""
        return self._daemon.identity.pid if self._daemon else 0

    def environment(self) -> dict[str, str]:
        """Variables that lead a client here: AWS_* with the key pair, the endpoint and a region."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            # Without this a client with no credentials asks the cloud's metadata address first.
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> Self:
        """Start the server and wait until it serves."""
        if self._daemon is not None:
            return self
        for bucket in self._buckets:
            (self.data / bucket).mkdir(parents=True, exist_ok=True)
        self.data.mkdir(parents=True, exist_ok=True)
        # An empty config keeps the user's remotes out. The short directory cache shows what is
        # changed in the data directory behind the server's back; none at all would make it list a
        # directory anew for each object.
        argv = [self._binary, "serve", "s3", "--config", "", "--addr", "127.0.0.1:0"]
        argv += ["--dir-cache-time", "1s", *(["--read-only"] if self.read_only else [])]
        argv.append(str(self.data.absolute()))
        env = {
            "HOME": str(self._home()),
            "RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"',
        }
        self._daemon = Daemon.start(argv, env, self._home() / "server.log")
        try:
            self.endpoint_url = self._wait(self._daemon)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the server; harmless if it does not run. Data it made for itself is deleted."""
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            daemon.stop()
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)
            self._private = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _home(self) -> Path:
        if self._private is None:
            self._private = Path(tempfile.mkdtemp(prefix="mountkit-s3-"))
        return self._private

    def _wait(self, daemon: Daemon) -> str:
        """The URL from the log. rclone listens before it prints it, so it serves by then."""
        found = wait_until(
            lambda: _LISTENING.search(daemon.tail()) or daemon.ended(),
            self._ready_seconds,
            POLL_SECONDS,
        )
        if isinstance(found, re.Match):
            return str(found[1])
        what = f"ended: {found}" if found else f"did not serve within {self._ready_seconds:g} s"
        raise MountUnavailableError(
            f"The embedded S3 server {what}: {daemon.tail()}",
            hint=f"Try it by hand: {self._binary} serve s3 {self.data}",
        )
