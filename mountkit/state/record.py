"""What is mounted on this machine: one private directory a mount, one record in it."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from mountkit.errors import ConfigurationError
from mountkit.linux.process import ProcessIdentity
from mountkit.spec import SOCKET_NAME, MountSpec, Source, StoreOptions
from mountkit.state import json_file
from mountkit.state.bypassed_files import STRAYS_NAME, Strays
from mountkit.state.proof_stats import Ledger
from mountkit.state.write_journal import JOURNAL_NAME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger("mountkit")

FORMAT = 1
RECORD_NAME = "record.json"
STOP_NAME = "stop"
UNPROVEN_NAME = "unproven"
ENDED_NAME = "ended.json"
# A unix socket's path has room for 107 bytes (man 7 unix).
LONGEST_DIRECTORY = 107 - len(f"/{SOCKET_NAME}")

MOUNTING = "mounting"
SERVING = "serving"
REPAIRING = "repairing"
FAILED = "failed"


def now() -> str:
    """The time as RFC 3339, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class MountRecord:
    """A mount as its supervisor last wrote it down."""

    spec: MountSpec
    state: str
    since: str
    supervisor: ProcessIdentity
    daemon: ProcessIdentity | None = None
    # The minor number of the mount's device: what the mount table knows it by.
    device: int | None = None
    remounts: int = 0
    reason: str = ""
    # When the mount was first made, in seconds since the epoch: what the cache holds from before
    # is left of another run.
    began: float = 0.0
    # Files that waited in the cache for their upload when the mount was made.
    adopted: tuple[str, ...] = ()
    # When the daemon was lost, in seconds since the epoch: a save under way then may be torn.
    lost: tuple[float, ...] = ()
    # What missed the mount in earlier runs, each time by name and mark; none of this run's concern.
    strays_before: tuple[tuple[str, str], ...] = ()
    # Checkpoints that had no manifest before anything was written through this mount.
    unproven_before: tuple[str, ...] = ()
    # Files that the last drain could not prove, for the next mount to take up.
    unproven: tuple[str, ...] = ()
    # When the mount was made by the store's clock, in seconds since the epoch.
    store_began: float = 0.0
    # What somebody else has had mounted over it: what was written there is not in the store.
    covered: str = ""

    def change(self, state: str, **fields: Any) -> MountRecord:
        """A copy in another state, as of now."""
        return replace(self, state=state, since=now(), **fields)


class StateDirectory:
    """The directory of one mount. Mode 0700; nothing in it holds a secret all the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tally = Ledger(path)
        self.strays = Strays(path)

    @property
    def log(self) -> Path:
        """Where the daemon's output goes."""
        return self.path / "daemon.log"

    @property
    def supervisor_log(self) -> Path:
        """Where a supervisor in the background writes."""
        return self.path / "supervisor.log"

    def write(self, record: MountRecord) -> None:
        """Replace the record in one step."""
        json_file.replace(self.path / RECORD_NAME, {"format": FORMAT, **asdict(record)})

    def read(self) -> MountRecord | None:
        """The record, or None if there is none."""
        return self._read(RECORD_NAME)

    def _read(self, name: str) -> MountRecord | None:
        path = self.path / name
        # An empty one was left by a mount that never got as far as a record.
        if name == UNPROVEN_NAME and not (path.exists() and path.stat().st_size):
            return None
        content = json_file.load(path)
        return None if content is None else _record(content, self.path)

    def ask_to_stop(self) -> None:
        """Tell the supervisor to unmount; whatever had to be drained has been."""
        (self.path / STOP_NAME).touch(mode=0o600)

    def forget_stop(self) -> None:
        """Whoever asked has given up, or asked another supervisor."""
        (self.path / STOP_NAME).unlink(missing_ok=True)

    def asked_to_stop(self) -> bool:
        """Whether somebody asked the supervisor to unmount."""
        return (self.path / STOP_NAME).exists()

    def write_file(self, name: str, text: str) -> None:
        """A private file for the daemon."""
        path = self.path / name
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)

    def clear(self, *, unproven: bool = False) -> None:
        """Remove the record: nothing is mounted any more. The logs stay.

        ``unproven`` says that not all was proven; then the next mount takes over what is known:
        what was written, where it waits, and when the mount was lost. What went astray stays known
        until the next one begins: somebody may look once more after the unmount.
        """
        done = [STOP_NAME, SOCKET_NAME]
        kept = UNPROVEN_NAME if unproven else ENDED_NAME
        with contextlib.suppress(FileNotFoundError):
            (self.path / RECORD_NAME).replace(self.path / kept)
        if unproven:
            (self.path / UNPROVEN_NAME).touch(mode=0o600)
            done += [ENDED_NAME]
        else:
            done += [UNPROVEN_NAME, JOURNAL_NAME]
        for name in done:
            (self.path / name).unlink(missing_ok=True)
        self.tally.clear()

    def unfinished(self) -> MountRecord | None:
        """The last record of a mount that came to no end, or to one before all was proven."""
        return self.read() or self._read(UNPROVEN_NAME)

    def last(self) -> MountRecord | None:
        """The last record of the last mount, however it ended, until the next one begins.

        What it wrote is told by this from what was there before.
        """
        return self.unfinished() or self._read(ENDED_NAME)

    def remove_socket(self) -> None:
        """Remove what a daemon that is gone listened on."""
        (self.path / SOCKET_NAME).unlink(missing_ok=True)

    def begin(self) -> bool:
        """Make ready for a mount; whether it takes over from one that did not come to its end.

        Then the log and the journal go on, and tell of what that one wrote.
        """
        (self.path / STOP_NAME).unlink(missing_ok=True)
        takes_over = any((self.path / name).exists() for name in (UNPROVEN_NAME, RECORD_NAME))
        if not takes_over:
            for name in (JOURNAL_NAME, STRAYS_NAME, ENDED_NAME):
                (self.path / name).unlink(missing_ok=True)
            self.tally.clear()
            with contextlib.suppress(FileNotFoundError):
                self.log.replace(self.log.with_suffix(".log.1"))
        return takes_over


class State:
    """All mounts of this user on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def directory(self, mount_id: str) -> StateDirectory:
        """The private directory of a mount, made if it is not there yet.

        Raises
        ------
        ConfigurationError
            If it cannot be made private, or its path is too long for a socket.
        """
        path = self.root / mount_id
        if len(os.fsencode(path)) > LONGEST_DIRECTORY:
            raise ConfigurationError(
                f"The state directory {self.root} is too long a path for a unix socket.",
                hint="Set MOUNTKIT_STATE_DIR to a shorter one.",
            )
        for folder in (self.root, path):
            _make_private(folder)
        return StateDirectory(path)

    def records(self) -> tuple[MountRecord, ...]:
        """Every mount that has a record, by target."""
        if not self.root.is_dir():
            return ()
        found = [self._read(path) for path in sorted(self.root.iterdir()) if path.is_dir()]
        return tuple(
            sorted((record for record in found if record), key=lambda record: record.spec.target)
        )

    def left(self) -> tuple[MountRecord, ...]:
        """Every mount that is there, or came to no end, or to one before all was proven."""
        if not self.root.is_dir():
            return ()
        folders = [path for path in sorted(self.root.iterdir()) if path.is_dir()]
        found = [self._read(path, StateDirectory.unfinished) for path in folders]
        return tuple(record for record in found if record)

    @staticmethod
    def _read(
        path: Path, read: Callable[[StateDirectory], MountRecord | None] = StateDirectory.read
    ) -> MountRecord | None:
        try:
            return read(StateDirectory(path))
        except ConfigurationError as error:
            # One broken record must not hide the other mounts.
            logger.warning("mountkit: %s", error)
            return None

    def at(self, target: str) -> MountRecord | None:
        """The mount at exactly that path: the one that lives, if a dead one has left its record."""
        there = [record for record in self.records() if record.spec.target == target]
        return max(there, key=_liveness, default=None)

    def covering(self, path: str) -> MountRecord | None:
        """The mount that a path lies in: the innermost, if several are nested."""
        inside = [
            record
            for record in self.records()
            if path == record.spec.target or path.startswith(record.spec.target + "/")
        ]
        return max(
            inside, key=lambda record: (len(record.spec.target), *_liveness(record)), default=None
        )


def _liveness(record: MountRecord) -> tuple[bool, bool, bool, str]:
    """The greater, the likelier it is that this mount is in the table."""
    daemon = record.daemon is not None and record.daemon.alive()
    return record.state != FAILED, record.supervisor.alive(), daemon, record.since


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise ConfigurationError(
            f"The state directory {folder} cannot be made: {error.strerror}.",
            hint="Set MOUNTKIT_STATE_DIR to a directory of your own.",
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ConfigurationError(
            f"The state directory {folder} belongs to somebody else.",
            hint="Set MOUNTKIT_STATE_DIR to a directory of your own.",
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)


def _occurrence(stray: str | list[str]) -> tuple[str, str]:
    """What missed the mount once; earlier versions wrote down its name alone."""
    path, mark = (stray, "") if isinstance(stray, str) else stray
    return path, mark


def _record(content: dict[str, Any], place: Path) -> MountRecord:
    try:
        spec = content["spec"]
        daemon = content["daemon"]
        return MountRecord(
            spec=MountSpec(
                source=Source(**spec["source"]),
                target=spec["target"],
                backend=spec["backend"],
                store=StoreOptions(**spec["store"]),
                cache_dir=spec["cache_dir"],
                largest_file=spec["largest_file"],
                why=spec["why"],
                options=tuple((name, value) for name, value in spec["options"]),
            ),
            state=content["state"],
            since=content["since"],
            supervisor=ProcessIdentity(**content["supervisor"]),
            daemon=ProcessIdentity(**daemon) if daemon else None,
            device=content["device"],
            remounts=content["remounts"],
            reason=content["reason"],
            began=content["began"],
            adopted=tuple(content["adopted"]),
            lost=tuple(content["lost"]),
            strays_before=tuple(_occurrence(stray) for stray in content["strays_before"]),
            unproven_before=tuple(content["unproven_before"]),
            unproven=tuple(content["unproven"]),
            store_began=content["store_began"],
            covered=content["covered"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{place / RECORD_NAME} was written by another version of mountkit ({error!r}).",
            hint=f"If nothing of yours is mounted, remove it: rm -r {place}",
        ) from error
