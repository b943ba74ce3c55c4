"""A mount as those who use it see it: its paths, and whether it serves right now."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.config.directories import state_root
from mountkit.config.settings import load
from mountkit.errors import ConfigurationError, MountUnavailableError
from mountkit.linux import mount_io
from mountkit.linux.paths import resolve
from mountkit.mounts import link_names
from mountkit.state.record import FAILED, SERVING
from mountkit.state.registry import State
from mountkit.store import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mountkit.backends.base import Control
    from mountkit.linux.mount_table import MountEntry
    from mountkit.spec import MountSpec
    from mountkit.state.mount_directory import StateDirectory
    from mountkit.state.record import MountRecord
    from mountkit.store.base import Store
    from mountkit.timing import Deadline

PROBE_SECONDS = 5.0
FLUSH_SECONDS = 30.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted bucket. Any process of the same user can have one; none of them owns it."""

    spec: MountSpec
    directory: StateDirectory

    @classmethod
    def containing(cls, path: str | Path, state: State | None = None) -> Mount | None:
        """The mount that ``path`` lies in, or None."""
        state = state or State(state_root(load()))
        record = state.containing(resolve(path))
        return None if record is None else cls.of(record, state)

    @classmethod
    def kept_at(cls, path: str | Path, state: State | None = None) -> Mount | None:
        """The mount at exactly ``path`` that a supervisor looks after, or None.

        Raises MountUnavailableError if that supervisor has given it up.
        """
        state = state or State(state_root(load()))
        record = state.at(resolve(path))
        if record is None or not record.supervisor.alive():
            return None
        if record.state == FAILED:
            raise MountUnavailableError(
                f"The mount at {path} is given up: {record.reason}",
                hint=f"See why: mountkit status {path}",
            )
        return cls.of(record, state)

    @classmethod
    def of(cls, record: MountRecord, state: State) -> Mount:
        """The mount that a record describes."""
        return cls(record.spec, state.directory(record.spec.id))

    @property
    def path(self) -> str:
        """The directory the bucket is mounted at: what ``output_dir`` should be."""
        return self.spec.target

    @property
    def source(self) -> str:
        """The URL that is mounted."""
        return self.spec.source.url

    def store(
        self, path: str = "", patience: float | None = None, deadline: Deadline | None = None
    ) -> Store:
        """The store behind a directory of the mount (relative to it), asked directly.

        ``patience``: about how many seconds a request may go unanswered, retries included.
        ``deadline``: after it nothing is asked any more.
        """
        source = self.spec.source.child(path)
        return open_store(source, self.spec.store, patience=patience, deadline=deadline)

    def control(self, deadline: Deadline | None = None) -> Control:
        """The daemon, and what it holds; by ``deadline`` nobody waits for it any more."""
        backend = backends.load(self.spec.backend)
        return backend.control(self.spec, self.directory.path, deadline)

    def record(self) -> MountRecord | None:
        """What the supervisor last wrote; None once nothing is mounted any more."""
        return self.directory.read()

    def last_record(self) -> MountRecord | None:
        """The same, and after the unmount what it was, until the next mount is made."""
        return self.directory.last()

    def daemon_pid(self) -> int | None:
        """The PID of the daemon, or None while there is none."""
        record = self.record()
        return record.daemon.pid if record and record.daemon else None

    def relative(self, path: str | Path) -> str:
        """``path`` relative to the mount; "" for the mount itself.

        Raises ConfigurationError if it does not lie in the mount.
        """
        try:
            return "/".join(Path(resolve(path)).relative_to(self.path).parts)
        except ValueError as error:
            raise ConfigurationError(
                f"{path} does not lie in the mount at {self.path}.",
                hint=f"Use {self.path}, or a directory below it.",
            ) from error

    def serving(self) -> bool:
        """Whether our mount is in the table and answers."""
        return self._seen()[1] and mount_io.ask(self.path, PROBE_SECONDS).alive

    def shadowed_by(self) -> str:
        """What somebody else has mounted over it, or "".

        While it is mounted anew nobody but its supervisor can tell ours by its device.
        """
        entry, ours = self._seen()
        record = self.record()
        if entry is None or ours or record is None or record.state not in {SERVING, FAILED}:
            return ""
        return f"{entry.source} ({entry.fstype}) is mounted over it"

    def _seen(self) -> tuple[MountEntry | None, bool]:
        """What the mount table has at the target, and whether it is our mount."""
        backend, record = backends.load(self.spec.backend), self.record()
        entry, device = backend.entry(self.path), record.device if record else None
        return entry, entry is not None and backend.matches(entry, self.spec.id, device)

    def missing(self, paths: Sequence[str], deadline: Deadline | None = None) -> frozenset[str]:
        """Those of the ``paths`` that it says it does not have; none while it does not serve.

        A link is there under its own name, or that of its object.
        """
        if not self._seen()[1]:
            return frozenset()
        seconds = PROBE_SECONDS if deadline is None else deadline.cut(PROBE_SECONDS)
        suffix = backends.load(self.spec.backend).links
        names = {path: link_names.shown(path, suffix) or path for path in paths}
        gone = mount_io.missing(self.path, sorted({*names, *names.values()}), seconds)
        return frozenset(path for path, name in names.items() if path in gone and name in gone)

    def real(self, path: str) -> str:
        """Where a path of the mount leads in the end; by its letters, if there is no answer."""
        answer = mount_io.real(self.path, path, PROBE_SECONDS) if self._seen()[1] else ""
        return answer or "/".join(part for part in (self.path, path) if part)

    def flush(self, deadline: Deadline | None = None) -> str:
        """Have the kernel write out what programs changed through a mapping; why not, or "".

        Only where the mount is in the table: below it is somebody else's disk. Of the time until
        ``deadline`` it takes a part at most.
        """
        if not backends.load(self.spec.backend).mounts or not self._seen()[1]:
            # A disk of others may have much of theirs to write. Each file is synced by itself.
            return ""
        seconds = FLUSH_SECONDS if deadline is None else deadline.cut(FLUSH_SECONDS)
        return mount_io.flush(self.path, seconds)

    def wait_until_serving(self, timeout: float) -> None:
        """Wait for a repair under way, at most ``timeout`` seconds.

        Raises MountUnavailableError if the mount does not come back.
        """
        deadline = time.monotonic() + timeout
        while not self.serving():
            record = self.record()
            state = record.state if record else "unmounted"
            if record is None or state == "failed" or time.monotonic() > deadline:
                raise MountUnavailableError(
                    f"The mount at {self.path} does not serve ({state}).",
                    hint=f"See why: mountkit status {self.path}",
                )
            time.sleep(POLL_SECONDS)

    def latest_checkpoint(self, *, weights_only: bool = False) -> str | None:
        """The path of the newest proven checkpoint, or None: what to resume from.

        One without optimizer, scheduler or RNG state is passed over, unless its weights alone are
        asked for.

        Raises MountkitError if the store cannot be asked.
        """
        from mountkit.checkpoints import newest

        name = newest.in_store(self.store(), weights_only=weights_only)
        return None if name is None else str(Path(self.path) / name)
