"""rclone's remote control over a private unix socket.

Sources: rclone's ``vfs/rc.go`` and ``vfs/vfscache/writeback``.
"""

from __future__ import annotations

import errno
import http.client
import json
import re
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mountkit.backends import log_gaps
from mountkit.backends.base import CacheLostError, Pending, Reference, WrittenFile
from mountkit.backends.log_gaps import LogFormat
from mountkit.backends.rclone import eviction, refusals
from mountkit.backends.rclone.cache_identity import CacheRoots
from mountkit.backends.rclone.names import stored
from mountkit.errors import MountUnavailableError
from mountkit.linux.process import tail
from mountkit.names import MANIFEST_NAME
from mountkit.state.bypassed_files import over
from mountkit.state.mount_directory import StateDirectory
from mountkit.store import checksums
from mountkit.timing import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mountkit.backends.base import LogGap
    from mountkit.backends.rclone.cache import RcloneCache

ROOTS_NAME = "cache.json"
TIMEOUT_SECONDS = 10.0
NOW = -1_000_000_000
QUICK_RETRIES = 3
PAUSE_SECONDS = 15.0
LOG_BYTES = 65536
FORMAT = LogFormat(
    refusals.STAMP,
    " (?:DEBUG|INFO|NOTICE|WARNING|ERROR|CRITICAL|ALERT|EMERGENCY) *: ",
    refusals.seconds,
    lambda text: f"{datetime.now(UTC):%Y/%m/%d %H:%M:%S.%f} NOTICE: {text}",
)
LOGGED = re.compile(rf"^{refusals.STAMP} (?:ERROR|CRITICAL) *: (.*)$", re.MULTILINE)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class RcloneControl:
    """One rclone mount: its remote control, and its cache."""

    def __init__(
        self, rc_socket: Path, cache: RcloneCache, deadline: Deadline | None = None
    ) -> None:
        self._socket = rc_socket
        self._state = StateDirectory(rc_socket.parent)
        self._cache = cache
        self._roots = CacheRoots(rc_socket.parent / ROOTS_NAME, (cache.data, cache.meta))
        self._deadline = deadline or Deadline()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One remote-control call, such as ``vfs/queue``; returns the JSON object it answers.

        Raises MountUnavailableError if rclone does not answer within 10 s, less where a deadline is
        near, or answers with an error.
        """
        connection = _UnixConnection(str(self._socket), self._deadline.cut(TIMEOUT_SECONDS))
        try:
            connection.request(
                "POST", f"/{method}", json.dumps(parameters), {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            body = json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise MountUnavailableError(
                f"rclone does not answer {method} on {self._socket}: {error}.",
                hint="See what became of it: mountkit status",
            ) from error
        finally:
            connection.close()
        answer: dict[str, Any] = body if isinstance(body, dict) else {}
        if response.status != http.client.OK:
            raise MountUnavailableError(
                f"rclone refused {method}: {answer.get('error', response.reason)}.",
                hint="See what became of it: mountkit status",
            )
        return answer

    def self_check(self) -> None:
        """See that rclone's cache is where it is looked for; flags could move it (F13)."""
        path = self.call("vfs/stats").get("diskCache", {}).get("path")
        if path != str(self._cache.data):
            raise MountUnavailableError(
                f"rclone keeps its cache in {path} and not in {self._cache.data}.",
                hint="Leave out what --option changes about the connection to the store.",
            )
        self._roots.remember()

    def flush_uploads(self) -> Pending:
        """Start every waiting upload now; soon, if it has failed a few times."""
        queue = self.call("vfs/queue").get("queue") or []
        failed = False
        for item in queue:
            failed = failed or (item["tries"] > 0 and not item["uploading"])
            # A store may be ill, and is left a pause. rclone's own doubles up to five minutes: the
            # proof would be given up before the next try, however long the store has been back.
            pause = NOW if item["tries"] < QUICK_RETRIES else PAUSE_SECONDS
            if not item["uploading"] and item["expiry"] > max(0.0, pause):
                self._expire(item["id"], pause)
        errors = self._errors() if failed else {}
        return Pending(
            waiting=tuple(stored(item["name"]) for item in queue),
            errors=tuple(
                (stored(item["name"]), errors.get(item["name"], "the upload failed"))
                for item in queue
                if item["tries"] > 0 and not item["uploading"]
            ),
            lost=tuple(self._refused(told=False).items()),
            sent=int(self.call("core/stats").get("bytes", 0)) if queue else 0,
        )

    def _expire(self, item_id: int, seconds: float) -> None:
        try:
            self.call("vfs/queue-set-expiry", id=item_id, expiry=seconds)
        except MountUnavailableError as error:
            # Uploaded between the two calls: there is nothing left to push.
            if "not found" not in error.message:
                raise

    def _errors(self) -> dict[str, str]:
        transferred = self.call("core/transferred").get("transferred") or []
        return {item["name"]: item["error"] for item in transferred if item.get("error")}

    def invalidate_directory(self, directory: str) -> None:
        """Forget what rclone knows of a directory, so that the store is asked again.

        By its name rclone forgets what is below it, but not the directory while an empty folder in
        it is only rclone's own; by that of a file in it, which need not be there, it does.
        """
        within = "/".join(filter(None, (directory, MANIFEST_NAME)))
        self.call("vfs/forget", dir=directory, file=within)

    def files(self, below: str = "") -> tuple[WrittenFile, ...]:
        """Every file in the cache below a directory, but for what was removed past the mount.

        Raises MountUnavailableError if the cache cannot be read, CacheLostError if it was taken
        away since the mount was made.
        """
        removed = self._state.bypassed.removed()
        files = self._cache.files(below)
        # Afterwards, so that one which goes away meanwhile is not taken for an empty one.
        problem = self._roots.problem()
        if problem:
            raise CacheLostError(
                f"{problem} What was written and not proven before that is not known.",
                hint="What was uploaded is in the bucket. To give up the rest of a mount that is "
                "still there: mountkit umount --discard",
            )
        refused = self._refused(told=False)
        return tuple(
            # No manifest of before speaks for it.
            replace(file, dirty=True) if file.path in refused else file
            for file in files
            if file.dirty or not over(file.path, file.modified, removed)
        )

    def lost_before(self, below: str = "") -> tuple[str, ...]:
        """By its log, which goes on from one run to the next until all is proven."""
        found = self._refused(told=True)
        return tuple(path for path in found if path.startswith(f"{below}/" if below else ""))

    def log_gaps(self) -> tuple[LogGap, ...]:
        """It tells of what the disk of its cache refused."""
        return log_gaps.of(self._state.log, FORMAT).read()

    def _refused(self, *, told: bool) -> dict[str, str]:
        """Files in the cache that lack bytes which their program wrote, and why.

        ``told``: Those that an earlier run has named, instead of those that are still to be named.

        Written anew in place, as ``open(path, "wb")`` does, a file cannot be told from one that was
        only added to: it is named until it is removed, or another one takes its place.
        """
        state, found = self._state, {}
        for place, (at, why) in refusals.of(state.log).read().items():
            local = Path(place)
            if not local.is_relative_to(self._cache.data) or not local.exists():
                continue
            path = local.relative_to(self._cache.data).as_posix()
            record = state.last()
            earlier = record is not None and at < record.told_until
            begun = over(path, at, state.bypassed.save_started_at()) or over(
                path, at, state.bypassed.removed()
            )
            if earlier == told and not begun and not refusals.made_since(local, at):
                found[path] = (
                    f"a write to it failed on the disk of rclone's cache: {why}; remove it, and "
                    "write it once more"
                )
        return found

    def reference(self, path: str) -> Reference | None:
        """The cached file's digest. Read through the mount it could be the store's own bytes."""
        local = self._cache.comparable(path)
        if local is not None:
            return Reference(checksums.digest_file(local, deadline=self._deadline), "mount", local)
        full = self.explain(path)
        if full:
            raise OSError(errno.ENOSPC, full, path)
        return None

    def explain(self, path: str) -> str:
        """Whether the disk was full, by its log; other errors come with its queue, see ``push``."""
        said = tail(self._state.log, LOG_BYTES)
        places = (self._cache.data / path, self._cache.meta / path)
        full = any(f"{place}: no space left on device" in said for place in places)
        return f"no space left on the disk of {self._cache.data}" if full else ""

    def last_error(self) -> tuple[float, str] | None:
        """The last error in its log: what it could not upload, and the store's own words."""
        found = LOGGED.findall(tail(self._state.log, LOG_BYTES))
        at = refusals.seconds(found[-1][0]) if found else 0.0
        return (at, found[-1][1]) if at else None

    def content(self, path: str) -> bytes | None:
        """The cached file, if all of it is there."""
        local = self._cache.local(path)
        try:
            return None if local is None else local.read_bytes()
        except FileNotFoundError:
            return None

    def evict(self, files: Iterable[WrittenFile]) -> tuple[str, ...]:
        """Remove the cached copies of files that rclone has uploaded, and nobody has open."""
        return eviction.evict(self._cache, files)

    def purge(self) -> None:
        """Empty the cache, but for files that still wait for their upload."""
        self._cache.purge()
        eviction.sweep(self._cache)
        self._roots.forget()

    def reconcile_leftovers(
        self, quarantine: Path, outdated: Iterable[str], missing: Iterable[str]
    ) -> None:
        """Set aside what is older than what the store has; have what it lost uploaded again."""
        # A mount is made anew: where its cache was emptied since the last one, that was on purpose.
        self._roots.forget()
        self._cache.move_to_quarantine(quarantine, outdated)
        self._cache.upload_again(missing)

    def partially_deleted(self, below: str = "") -> tuple[str, ...]:
        """By the directories of the cache, which change when a file of them is made or removed."""
        return self._cache.partially_deleted(below)

    def links_out(self) -> tuple[str, ...]:
        """Each is an object of its own, by whose name it is known."""
        return ()

    def leftovers(self, below: str = "") -> tuple[str, ...]:  # noqa: ARG002
        """Whatever is written can be renamed."""
        return ()

    def emptied(self, directory: str) -> float:  # noqa: ARG002
        """A directory stays until it is removed itself."""
        return 0.0

    def repair_cache(self, quarantine: Path) -> tuple[str, ...]:
        """Mend what a killed rclone left in the cache."""
        return self._cache.repair_cache(quarantine)
