"""The private directory of one mount."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from mountkit.names import SOCKET_NAME
from mountkit.state import baseline, json_file
from mountkit.state.baseline import BASELINE_NAME
from mountkit.state.bypassed_files import BYPASSED_NAME, BypassedFiles
from mountkit.state.proof_stats import Ledger
from mountkit.state.rank_marks import RankMarks
from mountkit.state.record import FORMAT, RECORD_NAME, MountRecord, parse
from mountkit.state.write_journal import JOURNAL_NAME, READ_NAME

if TYPE_CHECKING:
    from pathlib import Path

STOP_NAME = "stop"
UNPROVEN_NAME = "unproven"
ENDED_NAME = "ended.json"


class StateDirectory:
    """The directory of one mount. Mode 0700; nothing in it holds a secret all the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.proof_stats = Ledger(path)
        self.bypassed = BypassedFiles(path)
        self.ranks = RankMarks(path)

    @property
    def log(self) -> Path:
        """Where the daemon's output goes."""
        return self.path / "daemon.log"

    @property
    def supervisor_log(self) -> Path:
        """Where a supervisor in the background writes."""
        return self.path / "supervisor.log"

    def write(self, record: MountRecord, name: str = RECORD_NAME) -> None:
        """Replace the record in one step."""
        json_file.replace(self.path / name, {"format": FORMAT, **asdict(record)})

    def read(self) -> MountRecord | None:
        """The record, or None if there is none."""
        return self._read(RECORD_NAME)

    def _read(self, name: str) -> MountRecord | None:
        path = self.path / name
        # An empty one was left by a mount that never got as far as a record.
        if name == UNPROVEN_NAME and not (path.exists() and path.stat().st_size):
            return None
        content = json_file.load(path)
        return None if content is None else parse(content, self.path)

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
            self.proof_stats.clear()
        for name in done:
            (self.path / name).unlink(missing_ok=True)

    def unfinished(self) -> MountRecord | None:
        """The last record of a mount that came to no end, or to one before all was proven."""
        return self.read() or self._read(UNPROVEN_NAME)

    def told(self, record: MountRecord) -> MountRecord:
        """The record, with all that was lost by now as named to whoever runs this."""
        strays = tuple(each.occurrence for each in self.bypassed.found())
        return replace(record, named=time.time(), strays_before=strays, covered="")

    def write_unproven(self, record: MountRecord) -> None:
        """The record of a mount that was taken away before all was proven, for the next one."""
        self.write(record, UNPROVEN_NAME)

    def note_told(self) -> None:
        """That a mount which was taken away has been told of: what is lost with it was named."""
        record = self._read(UNPROVEN_NAME)
        if record is not None:
            self.write_unproven(self.told(record))

    def forget_lost(self) -> None:
        """That a directory which was saved into was lost for a while has been said."""
        baseline.forget_lost(self.path)

    def begin_elsewhere(self) -> None:
        """That a directory which was saved into is another one now has been said.

        What is known of the files of the one before is not known of those there now.
        """
        baseline.begin_elsewhere(self.path)
        for name in (JOURNAL_NAME, READ_NAME):
            (self.path / name).unlink(missing_ok=True)

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
        baseline.begin_anew(self.path)
        takes_over = any((self.path / name).exists() for name in (UNPROVEN_NAME, RECORD_NAME))
        if not takes_over:
            for name in (JOURNAL_NAME, READ_NAME, BYPASSED_NAME, ENDED_NAME, BASELINE_NAME):
                (self.path / name).unlink(missing_ok=True)
            self.proof_stats.clear()
            self.ranks.clear()
            with contextlib.suppress(FileNotFoundError):
                self.log.replace(self.log.with_suffix(".log.1"))
        return takes_over
