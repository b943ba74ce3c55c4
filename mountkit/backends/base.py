"""What mountkit asks of a backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from mountkit.errors import MountUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mountkit.linux.mount_table import MountEntry
    from mountkit.spec import MountSpec
    from mountkit.store.checksums import FileDigest
    from mountkit.timing import Deadline


class CacheLostError(MountUnavailableError):
    """What a daemon held on this machine is gone for good; no waiting brings it back."""


@dataclass(frozen=True, slots=True)
class Binary:
    """The daemon's program and the version it gave."""

    path: str
    version: tuple[int, ...]

    @property
    def version_text(self) -> str:
        """The version as people write it."""
        return ".".join(str(part) for part in self.version)


@dataclass(frozen=True, slots=True)
class DaemonCommand:
    """How to start the daemon.

    ``stdin`` is what it finds on its standard input, which never is on a disk: secrets may be in
    it.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    stdin: str = ""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was written through the mount, as far as the backend knows of it.

    ``path`` is relative to the mount, ``size`` in bytes, ``modified`` in seconds since the epoch.
    ``dirty`` says that its upload has not come to its end, as far as anybody but the store can say.
    ``version`` tells two contents apart where times do not; it may be empty. ``gone`` says that
    neither bytes nor an upload of it are left on this machine: it was removed while a program had
    it open, or somebody took its bytes away. The mount shows only the latter.
    """

    path: str
    size: int
    modified: float
    dirty: bool
    version: str = ""
    gone: bool = False

    @property
    def stamp(self) -> tuple[int, float, str]:
        """What changes whenever the file is written again."""
        return self.size, self.modified, self.version


@dataclass(frozen=True, slots=True)
class Reference:
    """What the store is compared with.

    ``taken`` is where the digest comes from: ``write`` while the bytes were written, ``mount`` read
    back afterwards. ``local`` is a file on this machine with the same bytes, if there is one.
    """

    digest: FileDigest
    taken: Literal["write", "mount"]
    local: Path | None = None


@dataclass(frozen=True, slots=True)
class LogGap:
    """Between when lines are missing, in seconds since the epoch; ``until`` may be inf."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Pending:
    """What the daemon says of its uploads. Never a proof: it can read empty too early.

    ``waiting`` are the paths in its queue; ``errors`` maps a path to why its last try failed;
    ``lost`` those that will not be tried again. ``sent`` counts bytes since the daemon's start.
    """

    waiting: tuple[str, ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    lost: tuple[tuple[str, str], ...] = ()
    sent: int = 0


class Control(Protocol):
    """A daemon that runs, and what it holds."""

    def self_check(self) -> None:
        """See that a daemon that just came up keeps its files where ``files`` looks for them.

        Raises MountUnavailableError if it does not, or does not answer: nothing could ever be
        proven.
        """

    def flush_uploads(self) -> Pending:
        """Start every waiting upload now, and say what there is.

        Raises MountUnavailableError if the daemon does not answer.
        """

    def files(self, below: str = "") -> tuple[WrittenFile, ...]:
        """What was written below that directory. Never waits for a mount that hangs.

        Raises MountUnavailableError if it takes the store to know, and the store cannot be asked.
        """

    def reference(self, path: str) -> Reference | None:
        """What is known of the bytes of ``path`` as they were written; None if nothing is.

        Raises OSError if the file cannot be read; TimeUpError if the deadline passes meanwhile;
        MountUnavailableError if it takes the store to know, and the store cannot be asked.
        """

    def explain(self, path: str) -> str:
        """Why the last operation on a file failed, in the daemon's words; "" if it does not say."""

    def last_error(self) -> tuple[float, str] | None:
        """When, in seconds since the epoch, and why an upload failed last, by the daemon's log.

        Only for people to read: it may be settled since. Never waits for the daemon.
        """

    def content(self, path: str) -> bytes | None:
        """All of a small file as it was written, if this machine still has it."""

    def partially_deleted(self, below: str = "") -> tuple[str, ...]:
        """Checkpoints of which a file was removed, or renamed, after their state was written.

        As far as this machine can tell, from what it keeps of them. A start of the daemon may hide
        it: to be asked before that, too.
        """

    def lost_before(self, below: str = "") -> tuple[str, ...]:
        """Files of which an earlier run lost bytes, and named them, and which nobody has mended.

        They are not lost to this run, as those in ``Pending.lost`` are, but a checkpoint with one
        of them is not whole.
        """

    def log_gaps(self) -> tuple[LogGap, ...]:
        """When the daemon's log lacks lines: what was lost then, nobody can tell.

        Raises MountUnavailableError if it is there and cannot be read.
        """

    def links_out(self) -> tuple[str, ...]:
        """Symbolic links that lead out of the mount, and of which the account tells nothing.

        Whatever is written through one of them is written elsewhere.

        Raises MountUnavailableError if it takes the directory to know, and it does not answer.
        """

    def leftovers(self, below: str = "") -> tuple[str, ...]:
        """Temporary files of a save that could not rename them: nobody's data, and no ``files``."""

    def emptied(self, directory: str) -> float:
        """When a file below it was last removed through the mount, in seconds since the epoch.

        0 if none was, and where a directory without files stays until it is removed itself.
        """

    def repair_cache(self, quarantine: Path) -> tuple[str, ...]:
        """Mend what a killed daemon left of its files; only while none runs.

        What cannot be mended is moved to ``aside``; these files are returned, relative to the
        mount.
        """

    def reconcile_leftovers(
        self, quarantine: Path, outdated: Iterable[str], missing: Iterable[str]
    ) -> None:
        """What an earlier run left, held against the store; only while no daemon runs.

        Files that wait for their upload and are ``outdated`` are moved to ``aside``; what was
        uploaded and is ``missing`` is uploaded once more.
        """

    def evict(self, files: Iterable[WrittenFile]) -> tuple[str, ...]:
        """Drop the local copies of files that are proven, if they are still as they were seen.

        The mount then shows them from the store. Returns the paths of those that stay: somebody
        has them open, or has written them again. Never drops what waits for its upload.

        Raises OSError if they cannot be dropped one by one on that file system.
        """

    def purge(self) -> None:
        """Drop local copies of what has been uploaded. Only while no daemon runs."""

    def invalidate_directory(self, directory: str) -> None:
        """Make the mount list that directory anew.

        Raises MountUnavailableError if the daemon does not answer.
        """


class Backend(Protocol):
    """A way to mount a bucket."""

    name: ClassVar[str]
    #: The URL schemes of the stores that it mounts; None if it mounts every store.
    schemes: ClassVar[frozenset[str] | None]
    #: Whether a daemon mounts something at the target. Otherwise the target is the source itself.
    mounts: ClassVar[bool]
    #: The operations, by name in :mod:`mountkit.backends.file_operations`, that a mount refuses.
    unsupported_operations: ClassVar[frozenset[str]]
    #: Whether a file that was closed waits on this machine until it is uploaded.
    write_back: ClassVar[bool]
    #: Whether what Python's libraries save is to be noted as it is written (``mountkit.writers``).
    journaled: ClassVar[bool]
    #: What the name of a symbolic link's object ends in; "" if such a mount makes no links.
    links: ClassVar[str]
    #: The metadata with the mark of the run on every object that the daemon uploads, if it may
    #: forget that it did; or "".
    mark: ClassVar[str]

    def binary(self, search_path: str) -> Binary:
        """Find the program.

        Raises MountUnavailableError if there is none, or it is too old.
        """

    def keeps(self, path: str) -> bool:
        """Whether a program finds what is stored as ``path`` under the name that it gave it."""

    def check_options(self, options: Sequence[tuple[str, str]]) -> None:
        """Refuse daemon options that mountkit sets itself.

        Raises UsageError, naming the option.
        """

    def command(
        self, spec: MountSpec, binary: Binary, directory: Path, environment: Mapping[str, str]
    ) -> DaemonCommand:
        """How to start the daemon for ``spec``, with ``directory`` for its private files."""

    def waiting(self, spec: MountSpec) -> tuple[str, ...]:
        """Files of an earlier run that wait on this machine for their upload, below the mount."""

    def entry(self, target: str) -> MountEntry | None:
        """The line of the mount table that ``matches`` is asked about; None if there is none."""

    def matches(self, entry: MountEntry, spec_id: str, device: int | None) -> bool:
        """Whether a line of the mount table is the mount with that id.

        ``device`` is the minor number it was last seen with, None if it was never seen.
        """

    def control(
        self, spec: MountSpec, directory: Path, deadline: Deadline | None = None
    ) -> Control:
        """Talk to the daemon of a mount; no wait for it is longer than ``deadline`` leaves room."""
