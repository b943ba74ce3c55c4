"""HDFS on loopback: a name node and a data node in one Java, and a client of its own."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import requests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Starting takes 12 s where nothing else runs.
START_SECONDS = 120
ANSWER_SECONDS = 60


class Hdfs:
    """The server, for as long as its standard input is open."""

    user = "root"

    def __init__(self, folder: Path, binary: str) -> None:
        self._folder = folder
        self._binary = binary

    def __enter__(self) -> Self:
        self._log = (self._folder / "hdfs.log").open("wb")
        self._server = subprocess.Popen(
            [self._binary, str(self._folder / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "HADOOP_USER_NAME": self.user},
        )
        try:
            rpc, http = self._ready().split()[1:]
        except BaseException:
            self.__exit__()
            raise
        self.name_node, self.url = f"127.0.0.1:{rpc}", f"http://127.0.0.1:{http}"
        # The first request of each kind is slow.
        self.create("warm", b"1")
        self.remove("warm")
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.wait()
        for stream in (self._server.stdin, self._server.stdout, self._log):
            if stream is not None:
                stream.close()

    def stop(self) -> None:
        """It answers nobody, as a machine that is overloaded."""
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._server.send_signal(signal.SIGCONT)

    def _ready(self) -> str:
        """The line with its ports; other lines are the servers' own."""
        assert self._server.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._server.stdout, selectors.EVENT_READ)
            while selector.select(START_SECONDS):
                line = self._server.stdout.readline().decode()
                assert line, "the server ended"
                if line.startswith("ready "):
                    return line
        raise AssertionError("the server does not come up")

    # What somebody else does

    def _ask(self, method: str, key: str, op: str, data: bytes | None = None, **words: str) -> Any:
        url = f"{self.url}/webhdfs/v1/{quote(key)}"
        words = {"op": op, "user.name": self.user, **words}
        answer = requests.request(method, url, params=words, data=data, timeout=ANSWER_SECONDS)
        if answer.status_code == 404:
            raise FileNotFoundError(answer.text)
        assert answer.ok, (answer.status_code, answer.text)
        return answer

    def create(self, key: str, data: bytes) -> None:
        self._ask("PUT", key, "CREATE", data, overwrite="true")

    @contextlib.contextmanager
    def writing(self, key: str, data: bytes) -> Iterator[None]:
        """A file that is there, and is not closed yet."""
        told = self._ask("PUT", key, "CREATE", overwrite="true", noredirect="true")
        end = threading.Event()

        def body() -> Iterator[bytes]:
            yield data
            end.wait(ANSWER_SECONDS)

        with ThreadPoolExecutor(1) as pool:
            put = pool.submit(
                requests.put, told.json()["Location"], data=body(), timeout=ANSWER_SECONDS
            )
            try:
                yield
            finally:
                end.set()
            assert put.result().ok

    def append(self, key: str, data: bytes) -> None:
        self._ask("POST", key, "APPEND", data)

    def remove(self, key: str) -> None:
        self._ask("DELETE", key, "DELETE", recursive="true")

    def allow(self, key: str, mode: str) -> None:
        """Set the permissions of a directory, in octal digits."""
        self._ask("PUT", key, "SETPERMISSION", permission=mode)

    def make(self, key: str) -> None:
        self._ask("PUT", key, "MKDIRS")

    def walk(self, top: str) -> list[str]:
        """The files below a directory; none if it is not there."""
        url = f"{self.url}/webhdfs/v1/{quote(top)}"
        words = {"op": "LISTSTATUS", "user.name": self.user}
        answer = requests.get(url, params=words, timeout=ANSWER_SECONDS)
        if answer.status_code == 404:
            return []
        found = []
        for each in answer.json()["FileStatuses"]["FileStatus"]:
            path = f"{top}/{each['pathSuffix']}"
            found += self.walk(path) if each["type"] == "DIRECTORY" else [path]
        return found

    def read(self, key: str) -> bytes:
        content: bytes = self._ask("GET", key, "OPEN").content
        return content

    def contents(self, top: str) -> dict[str, bytes]:
        """Every file below a directory, by its path from there."""
        found = {}
        for path in self.walk(top):
            # Others take files away meanwhile.
            with contextlib.suppress(FileNotFoundError):
                found[path[len(top) + 1 :]] = self.read(path)
        return found
