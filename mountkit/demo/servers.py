"""The stores that the demo starts on this machine, and how each of them is reached."""

from __future__ import annotations

import base64
import os
import re
import secrets
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mountkit.demo.s3_server import EmbeddedS3
from mountkit.errors import MountUnavailableError
from mountkit.linux.daemon import Daemon
from mountkit.spec import StoreOptions
from mountkit.timing import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

BUCKET, USER, LOOPBACK = "demo", "training", "127.0.0.1"
#: What leads a client to a store of the user's.
CLIENT_VARIABLES = (
    "AWS_", "AZURE_", "CLOUDSDK_", "GOOGLE_", "HADOOP_", "MOUNTKIT_", "RCLONE_", "STORAGE_",
)  # fmt: skip
READY_SECONDS = 120.0
ANSWER_SECONDS = 30.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Reached:
    """A store that serves: its URL, what it is in words, and all that a client needs.

    ``secrets`` are what nobody may see on a command line.
    """

    url: str
    told: str
    environment: Mapping[str, str]
    options: StoreOptions = field(default_factory=StoreOptions)
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ground:
    """What a server is started with: its program, rclone, and where its data and its log go."""

    program: str
    rclone: str
    data: Path
    work: Path


def without_own_stores(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment, with these variables in the place of what leads to the user's stores."""
    others = {k: v for k, v in os.environ.items() if not k.startswith(CLIENT_VARIABLES)}
    return {**others, **variables}


@contextmanager
def s3(ground: Ground) -> Iterator[Reached]:
    """``rclone serve s3``; its buckets are directories."""
    with EmbeddedS3(data=ground.data, buckets=[BUCKET], binary=ground.rclone) as server:
        yield Reached(
            f"s3://{BUCKET}",
            f"S3 on {server.endpoint_url}",
            without_own_stores(server.environment()),
            StoreOptions(server.endpoint_url),
            (server.secret_key,),
        )


@contextmanager
def sftp(ground: Ground) -> Iterator[Reached]:
    """``rclone serve sftp`` over one directory, as a remote that only variables configure."""
    folder, password = ground.data / BUCKET, secrets.token_hex(20)
    # As in EmbeddedS3: what is changed in the directory is seen a second later.
    argv = [ground.rclone, "serve", "sftp", "--config", "", "--addr", f"{LOOPBACK}:0"]
    argv += ["--dir-cache-time", "1s", str(folder)]
    # The home has the server's own key, and no keys that it lets in.
    env = {"HOME": str(ground.work), "RCLONE_USER": USER, "RCLONE_PASS": password}
    with _served(argv, env, ground.work / "sftp.log", rf"listening on {LOOPBACK}:(\d+)") as found:
        obscured = _run([ground.rclone, "obscure", "-"], {}, password)
        remote = {"TYPE": "sftp", "HOST": LOOPBACK, "PORT": found[1], "USER": USER}
        remote["PASS"] = obscured
        # No file: the user's remotes stay out.
        env = {"RCLONE_CONFIG": "", **{f"RCLONE_CONFIG_DEMO_{k}": v for k, v in remote.items()}}
        told = f"sftp on {LOOPBACK}:{found[1]}"
        yield Reached("rclone://demo", told, without_own_stores(env), secrets=(password, obscured))


@contextmanager
def gs(ground: Ground) -> Iterator[Reached]:
    """An emulator of Google Cloud Storage, which asks for no credentials."""
    # Each of its directories is a bucket. It does not say which port it took.
    (ground.data / BUCKET).mkdir(parents=True)
    with socket.create_server((LOOPBACK, 0)) as free:
        port = str(free.getsockname()[1])
    url = f"http://{LOOPBACK}:{port}"
    flags = f"-scheme http -host {LOOPBACK} -port {port} -external-url {url}"
    flags += f" -public-host {LOOPBACK}:{port} -backend filesystem -filesystem-root"
    argv = [ground.program, *flags.split(), str(ground.data)]
    # It reads whole objects into memory; without a limit, several times over.
    env = {"GOMEMLIMIT": "200MiB"}
    with _served(argv, env, ground.work / "gs.log", "server started"):
        env = without_own_stores({"STORAGE_EMULATOR_HOST": url})
        told = f"fake-gcs-server on {url}, without credentials"
        yield Reached(f"gs://{BUCKET}", told, env, StoreOptions(url))


@contextmanager
def az(ground: Ground) -> Iterator[Reached]:
    """An emulator of Azure Blob Storage with one account, whose key is random."""
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    flags = f"--disableTelemetry --skipApiVersionCheck --blobHost {LOOPBACK} --blobPort 0"
    argv = [ground.program, *flags.split(), "--location", str(ground.data)]
    env = {"AZURITE_ACCOUNTS": f"{USER}:{key}"}
    with _served(argv, env, ground.work / "az.log", r"listens on (http://[\d.:]+)") as found:
        url = f"{found[1]}/{USER}"
        connection = f"DefaultEndpointsProtocol=http;AccountName={USER};AccountKey={key};"
        connection += f"BlobEndpoint={url}"
        # No client of Azure's makes containers here but rclone.
        made = {"RCLONE_AZUREBLOB_CONNECTION_STRING": connection}
        _run([ground.rclone, "mkdir", "--config", "", f":azureblob:{BUCKET}"], made)
        env = without_own_stores({"AZURE_STORAGE_CONNECTION_STRING": connection})
        yield Reached(f"az://{BUCKET}", f"Azurite on {url}", env, secrets=(key,))


@contextmanager
def hdfs(ground: Ground) -> Iterator[Reached]:
    """A name node and a data node in one; who asks is whoever one says."""
    argv, user = [ground.program, str(ground.data)], {"HADOOP_USER_NAME": USER}
    # Java would take all that it may before it collects what nobody needs.
    env = {**user, "_JAVA_OPTIONS": "-Xmx192m"}
    with _served(argv, env, ground.work / "hdfs.log", r"(?m)^ready (\d+) (\d+)$") as found:
        told = f"HDFS on {LOOPBACK}:{found[1]}, without Kerberos"
        web = StoreOptions(f"http://{LOOPBACK}:{found[2]}")
        place = f"hdfs://{LOOPBACK}:{found[1]}/{BUCKET}"
        yield Reached(place, told, without_own_stores(user), web)


@contextmanager
def _served(
    argv: Sequence[str], variables: Mapping[str, str], log: Path, ready: str
) -> Iterator[re.Match[str]]:
    """Run a server until the end of the block; the words in its log that say that it serves.

    Raises MountUnavailableError if they do not come.
    """
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv,
                env=without_own_stores(variables),
                # Left open: hdfs-server ends where it is closed.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                start_new_session=True,
            )
    except OSError as error:
        raise MountUnavailableError(
            f"{argv[0]} cannot be started: {error.strerror}.",
            hint=f"See what it is: file {argv[0]}",
        ) from error
    daemon = Daemon(process, log)
    try:
        found = wait_until(
            lambda: re.search(ready, log.read_text(errors="replace")) or daemon.ended(),
            READY_SECONDS,
            POLL_SECONDS,
        )
        if not isinstance(found, re.Match):
            what = f"ended: {found}" if found else f"did not serve within {READY_SECONDS:g} s"
            raise MountUnavailableError(
                f"{argv[0]} {what}: {daemon.tail()}",
                hint="Play on a store that serves already: mountkit demo --source URL",
            )
        yield found
    finally:
        daemon.stop()
        if process.stdin is not None:
            process.stdin.close()


def _run(argv: Sequence[str], variables: Mapping[str, str], given: str = "") -> str:
    """What a short command of rclone's prints.

    Raises MountUnavailableError if it fails.
    """
    try:
        return subprocess.run(
            argv,
            env=without_own_stores(variables),
            input=given,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=True,
        ).stdout.strip()
    except subprocess.SubprocessError as error:
        raise MountUnavailableError(
            f"{' '.join(argv[:2])} failed: {getattr(error, 'stderr', None) or error}",
            hint="Check that rclone works: rclone version",
        ) from error
