"""Google Cloud Storage and HDFS, as the tests of every store see them; see ``every_store.Kind``."""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING

import pytest

from support.gcs import Google, Key, find_server
from support.hdfs import Hdfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BUCKET = "bucket"


class GoogleKind:
    """Everything but the tests' own client goes through a door that asks for a token."""

    #: The key is in a file, which a supervisor reads anew.
    by_environment = False

    def __init__(self, google: Google, folder: Path) -> None:
        self.google = google
        self._bucket = google.client().create_bucket(BUCKET)
        stranger = Key().write(folder / "stranger.json", f"{google.url}/token")
        self.environment = {
            "GOOGLE_APPLICATION_CREDENTIALS": str(google.key_file),
            "MOUNTKIT_ENDPOINT_URL": google.url,
        }
        self.wrong = {"GOOGLE_APPLICATION_CREDENTIALS": str(stranger)}
        self.missing = "gs://there-is-no-such-bucket/run"

    @property
    def secrets(self) -> list[str]:
        # A line of the key, and what was handed out for it.
        line = json.loads(self.google.key_file.read_text())["private_key"].splitlines()[3]
        return [line, *self.google.tokens]

    def url(self, prefix: str) -> str:
        return f"gs://{BUCKET}/{prefix}"

    wrong_url = url

    def objects(self, prefix: str) -> dict[str, bytes]:
        from google.api_core.exceptions import NotFound

        found = {}
        for blob in self._bucket.list_blobs(prefix=f"{prefix}/"):
            # Others take objects away meanwhile.
            with contextlib.suppress(NotFound):
                found[blob.name[len(prefix) + 1 :]] = blob.download_as_bytes()
        return found

    def put(self, path: str, data: bytes) -> None:
        self._bucket.blob(path).upload_from_string(data)

    def stop(self) -> None:
        self.google.away = True

    def start(self) -> None:
        self.google.away = False

    def rotate(self) -> Callable[[], dict[str, str]]:
        """The account gets another key; call what comes back to take it up here."""
        self.google.key = Key()
        self.google.revoke()

        def take_up() -> dict[str, str]:
            self.google.key.write(self.google.key_file, f"{self.google.url}/token")
            return {}

        return take_up


class HdfsKind:
    """Without Kerberos there is no secret, and who asks is whoever one says."""

    def __init__(self, hdfs: Hdfs) -> None:
        self.hdfs = hdfs
        self.environment = {"HADOOP_USER_NAME": hdfs.user, "MOUNTKIT_ENDPOINT_URL": hdfs.url}
        # The directory above is not theirs to write to.
        self.wrong = {"HADOOP_USER_NAME": "stranger"}
        self.missing = "hdfs://no-such-host.invalid:8020/run"
        self.secrets: list[str] = []
        self.stop, self.start = hdfs.stop, hdfs.go_on

    def url(self, prefix: str) -> str:
        return f"hdfs://{self.hdfs.name_node}/{prefix}"

    wrong_url = url

    def objects(self, prefix: str) -> dict[str, bytes]:
        return self.hdfs.contents(prefix)

    def put(self, path: str, data: bytes) -> None:
        self.hdfs.create(path, data)


@contextlib.contextmanager
def gs(folder: Path) -> Iterator[GoogleKind]:
    binary = find_server()
    if binary is None:
        pytest.skip("fake-gcs-server is not there: install Go for `make test` to build it")
    with Google(folder, binary) as google:
        yield GoogleKind(google, folder)


@contextlib.contextmanager
def hdfs(folder: Path) -> Iterator[HdfsKind]:
    binary = shutil.which("hdfs-server")
    if binary is None:
        pytest.skip("hdfs-server is not there: install a JDK and Maven for `make test` to make it")
    with Hdfs(folder, binary) as served:
        yield HdfsKind(served)
