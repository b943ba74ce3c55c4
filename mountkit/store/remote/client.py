"""Calls to rclone for one place of one remote, and the errors that they end in."""

from __future__ import annotations

import http.client
from contextlib import closing
from typing import TYPE_CHECKING, Any

from mountkit.errors import MountkitError, MountUnavailableError
from mountkit.store import rclone_names
from mountkit.store.base import ObjectMissingError
from mountkit.store.place import Place
from mountkit.store.remote import configuration, errors, rcd
from mountkit.store.remote.configuration import REMOTE, Remote
from mountkit.store.remote.rcd import CallError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPResponse

    from mountkit.store.remote.rcd import Rcd

#: A process that was killed has ended so long after it does not answer any more.
ENDS_SECONDS = 1.0
NOT_FOUND = 404
BOUNDARY = "mountkit-4f1d9e7c"


class Client(Place):
    """What a store of rclone asks with; nothing is started before it is used."""

    @property
    def remote(self) -> Remote:
        """The remote as it is configured now."""
        return configuration.read(self.source.bucket)

    @property
    def fs(self) -> str:
        """The top of the remote, in rclone's words: the directory it begins with, or its root."""
        return f"{REMOTE}:/" if self.source.prefix.startswith("/") else f"{REMOTE}:"

    def shown(self, path: str) -> str:
        """The path below ``fs`` of a path below the source, as rclone writes it."""
        return rclone_names.shown(self.source.key(path).lstrip("/"))

    def call(self, method: str, doing: str, path: str, **parameters: Any) -> Mapping[str, Any]:
        """One call about a path; ``fs`` is given along.

        Raises
        ------
        ObjectMissingError
            If what it is about is not there.
        MountkitError
            What else ``errors.translate`` makes of the answer, and TimeUpError.
        """
        seconds = self._seconds()
        fs = {"fs": self.fs} if "srcFs" not in parameters else {}
        found: Mapping[str, Any] = self._asked(
            lambda each: each.call(method, seconds, **fs, **parameters), doing, path, seconds
        )
        return found

    def upload(self, path: str, data: bytes) -> None:
        """Write a file, which may be there in part until this comes back."""
        seconds = self._seconds()
        folder, _, name = self.shown(path).rpartition("/")
        body = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; '
            f'filename="{_quoted(name)}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        ).encode() + data
        body += f"\r\n--{BOUNDARY}--\r\n".encode()
        query = f"?fs={_percent(self.fs)}&remote={_percent(folder)}"
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        self._asked(
            lambda each: each.post(f"/operations/uploadfile{query}", body, kind, seconds),
            "write",
            path,
            seconds,
        )

    def open(self, path: str, offset: int = 0) -> HTTPResponse:
        """The bytes of a file from ``offset`` on; whoever reads them closes it.

        Raises ObjectMissingError if it is not there.
        """
        seconds = self._seconds()
        place = f"/[{_percent(self.fs)}]/{_percent(self.shown(path))}"

        def ask(each: Rcd) -> HTTPResponse:
            connection = each.connect(seconds)
            try:
                header = {"Range": f"bytes={offset}-"} if offset else {}
                connection.request("GET", place, headers=header)
                response = connection.getresponse()
                _refuse_error(response)
            except BaseException:
                connection.close()
                raise
            # The response keeps the socket until it is closed itself.
            return response

        found: HTTPResponse = self._asked(ask, "read", path, seconds)
        return found

    def _seconds(self) -> float:
        self.deadline.check()
        return self.deadline.cut(self.patience)

    def _asked(self, ask: Any, doing: str, path: str, seconds: float) -> Any:
        remote = self.remote
        for last in (False, True):
            running = rcd.of(remote)
            try:
                return ask(running)
            except CallError as error:
                raise self._translated(error, remote, doing, path) from error
            except TimeoutError as error:
                raise self.silent(seconds, doing, path) from error
            except (OSError, http.client.HTTPException) as error:
                # It was ended, by the kernel for one; the next is another. But one that answers
                # nonsense would do so again.
                if last or not running.ends(ENDS_SECONDS):
                    raise MountUnavailableError(
                        f"rclone does not answer when asked to {doing} {self.url(path)}: "
                        f"{type(error).__name__}: {error}.",
                        hint=f"Try again: mountkit doctor {self.source.url}",
                    ) from error
        raise AssertionError

    def silent(self, seconds: float, doing: str, path: str) -> MountUnavailableError:
        """There was no answer in that time."""
        return MountUnavailableError(
            f"The store of the remote {self.source.bucket!r} gave no answer in {seconds:.0f} s "
            f"when asked to {doing} {self.url(path)}.",
            hint=f"Check the network, then: mountkit doctor {self.source.url}",
        )

    def _translated(self, error: CallError, remote: Remote, doing: str, path: str) -> MountkitError:
        text, where = str(error), self.url(path)
        missing = errors.NO_OBJECT.search(text) or errors.NO_DIRECTORY.search(text)
        if missing or (error.status == NOT_FOUND and doing == "read"):
            return ObjectMissingError(
                f"{where} is not in the store.",
                hint=f"See what is: mountkit latest {self.source.url}",
            )
        return errors.translate(text, remote, doing=doing, where=where)


def _percent(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="/")


def _quoted(name: str) -> str:
    """A file's name in the header of a form."""
    return name.replace("\\", "\\\\").replace('"', '\\"')


def _refuse_error(response: HTTPResponse) -> None:
    """Raise CallError, in the words of the answer, if it is not the file."""
    if response.status in {http.client.OK, http.client.PARTIAL_CONTENT}:
        return
    with closing(response):
        said = rcd.parsed(response.read(rcd.SAID_BYTES)).get("error") or response.reason
    raise CallError(str(said), response.status)
