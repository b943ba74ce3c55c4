"""rclone's remote control over a private unix socket, and its cache on disk.

Sources: rclone's ``vfs/rc.go``, ``vfs/vfscache/item.go`` and ``vfs/vfscache/writeback``.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from datetime import datetime
from pathlib import Path
from typing import Any

from mountkit.backends.protocol import LocalFile, Pending
from mountkit.errors import MountUnavailableError

TIMEOUT_SECONDS = 10.0
NOW = -1_000_000_000
QUICK_RETRIES = 3


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class RcloneControl:
    """One rclone mount: its remote control, and the two trees of its cache."""

    def __init__(self, rc_socket: Path, data: Path, meta: Path) -> None:
        self._socket = rc_socket
        self._data = data
        self._meta = meta

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One remote-control call, such as ``vfs/queue``; returns the JSON object it answers.

        Raises
        ------
        MountUnavailableError
            If rclone does not answer within 10 s, or answers with an error.
        """
        connection = _UnixConnection(str(self._socket))
        try:
            connection.request(
                "POST", f"/{method}", json.dumps(parameters), {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            body = json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            raise MountUnavailableError(
                f"rclone does not answer {method} on {self._socket}: {error}.",
                hint="See what became of it: mountkit status",
            ) from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise MountUnavailableError(
                f"rclone refused {method}: {body.get('error', response.reason)}.",
                hint="See what became of it: mountkit status",
            )
        if not isinstance(body, dict):
            return {}
        return body

    def confirm(self) -> None:
        """See that rclone's cache is where it is looked for; flags could move it (F13)."""
        path = self.call("vfs/stats").get("diskCache", {}).get("path")
        if path != str(self._data):
            raise MountUnavailableError(
                f"rclone keeps its cache in {path} and not in {self._data}.",
                hint="Leave out what --option changes about the connection to the store.",
            )

    def push(self) -> Pending:
        """Start every waiting upload now."""
        queue = self.call("vfs/queue").get("queue") or []
        failed = False
        for item in queue:
            failed = failed or (item["tries"] > 0 and not item["uploading"])
            # A file that failed a few times keeps rclone's own back-off: the store may be ill.
            if not item["uploading"] and item["expiry"] > 0 and item["tries"] < QUICK_RETRIES:
                self._expire(item["id"])
        errors = self._errors() if failed else {}
        return Pending(
            waiting=tuple(item["name"] for item in queue),
            errors=tuple(
                (item["name"], errors.get(item["name"], "the upload failed"))
                for item in queue
                if item["tries"] > 0 and not item["uploading"]
            ),
            sent=int(self.call("core/stats").get("bytes", 0)) if queue else 0,
        )

    def _expire(self, item_id: int) -> None:
        try:
            self.call("vfs/queue-set-expiry", id=item_id, expiry=NOW)
        except MountUnavailableError as error:
            # Uploaded between the two calls: there is nothing left to push.
            if "not found" not in error.message:
                raise

    def _errors(self) -> dict[str, str]:
        transferred = self.call("core/transferred").get("transferred") or []
        return {item["name"]: item["error"] for item in transferred if item.get("error")}

    def refresh(self, directory: str) -> None:
        """Forget what rclone knows of a directory, so that the store is asked again."""
        self.call("vfs/forget", dir=directory)

    def files(self, below: str = "") -> tuple[LocalFile, ...]:
        """Every file in the cache below a directory, from rclone's own record of it."""
        found = []
        top = self._meta / below
        for folder, _, names in os.walk(top):
            for name in names:
                path = Path(folder) / name
                info = _read_info(path)
                if info is None:
                    continue
                found.append(
                    LocalFile(
                        path=path.relative_to(self._meta).as_posix(),
                        size=info.get("Size", 0),
                        modified=_seconds(info.get("ModTime", "")),
                        dirty=bool(info.get("Dirty", True)),
                    )
                )
        return tuple(sorted(found, key=lambda file: file.path))

    def purge(self) -> None:
        """Empty the cache, but for files that still wait for their upload."""
        for file in self.files():
            if not file.dirty:
                (self._data / file.path).unlink(missing_ok=True)
                (self._meta / file.path).unlink(missing_ok=True)

    def local(self, path: str) -> Path | None:
        """The cached file, if all of it is there."""
        info = _read_info(self._meta / path)
        data = self._data / path
        if not info:
            return None
        size = info.get("Size", -1)
        ranges = info.get("Rs") or []
        whole = size == 0 or ranges == [{"Pos": 0, "Size": size}]
        try:
            return data if whole and data.stat().st_size == size else None
        except FileNotFoundError:
            return None


def _read_info(path: Path) -> dict[str, Any] | None:
    """Rclone's record of a cached file; None if it went away, {} if it cannot be read (F12)."""
    try:
        info = json.loads(path.read_bytes() or b"{}")
    except FileNotFoundError:
        return None
    except ValueError:
        # rclone rewrites the record in place; what is read in the middle of that says nothing.
        return {}
    return info if isinstance(info, dict) else {}


def _seconds(timestamp: str) -> float:
    # Go prints nanoseconds and any zone; Python 3.10 reads microseconds and no "Z".
    head, dot, tail = timestamp.replace("Z", "+00:00").partition(".")
    if dot:
        digits = "".join(c for c in tail.split("+")[0].split("-")[0])
        head = f"{head}.{digits[:6].ljust(6, '0')}{tail[len(digits) :]}"
    try:
        return datetime.fromisoformat(head).timestamp()
    except ValueError:
        return 0.0
