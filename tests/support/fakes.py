"""What several unit tests share: small stand-ins for what a module is handed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mountkit.backends.base import (
    Binary,
    DaemonCommand,
    LogGap,
    Pending,
    Reference,
    WrittenFile,
)
from mountkit.errors import VerificationError
from mountkit.linux import mount_table
from mountkit.linux.process import ProcessIdentity
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state.bypassed_files import BypassedFile
from mountkit.state.mount_directory import StateDirectory
from mountkit.state.record import SERVING, MountRecord, now
from mountkit.store import checksums
from mountkit.store.base import (
    SMALL_OBJECT_BYTES,
    Attestation,
    Checksum,
    ObjectInfo,
    ObjectMissingError,
    StoreFacts,
    UnsupportedConditionError,
    Version,
)
from mountkit.store.checksums import digest_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mountkit.backends.base import Backend, Control
    from mountkit.errors import MountUnavailableError
    from mountkit.linux.mount_table import MountEntry
    from mountkit.store.base import Provider, Store
    from mountkit.timing import Deadline


def open_descriptors() -> list[str]:
    """The numbers of this process's open files."""
    return sorted(link.name for link in Path("/proc/self/fd").iterdir())


def astray(*paths: str, mark: str = "1") -> tuple[BypassedFile, ...]:
    """Files that missed the mount."""
    return tuple(BypassedFile(path, 5, time.time(), mark) for path in paths)


@dataclass
class Bucket:
    """The objects of a bucket by key, and every request in order.

    ``modified`` and ``metadata`` have what was noted of an object; without it, it is from just now.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    modified: dict[str, datetime] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    before_attest: Callable[[str], None] = lambda _: None
    before_delete: Callable[[str], None] = lambda _: None
    before_put: Callable[[str], None] = lambda _: None
    #: Whether it enforces the conditions of ``put_if``, ignores them, or refuses them.
    conditions: Literal["enforced", "ignored", "refused"] = "enforced"
    #: The store's own clock.
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    lock: Any = field(default_factory=threading.RLock)

    def asked(self, kind: str) -> list[str]:
        return [key for name, key in self.requests if name == kind]


class FakeStore:
    """A store in memory that attests CRC64NVME; see :class:`mountkit.store.base.Store`."""

    lists_checksums: ClassVar[bool] = False

    def __init__(self, bucket: Bucket, source: Source) -> None:
        self._bucket = bucket
        self._source = source

    @property
    def source(self) -> Source:
        return self._source

    def _note(self, kind: str, path: str) -> str:
        key = self._source.key(path.rstrip("/"))
        with self._bucket.lock:
            self._bucket.requests.append((kind, key))
        return key

    def url(self, path: str) -> str:
        return self._source.child(path.rstrip("/")).url if path else self._source.url

    def list(self, prefix: str = "", *, markers: bool = False) -> Iterator[ObjectInfo]:
        top = self._note("list", prefix)
        cut = len(self._source.prefix) + 1 if self._source.prefix else 0
        dated = datetime.now(UTC)
        for key, data in sorted(self._bucket.objects.items()):
            if not top or key.startswith(f"{top}/"):
                modified = self._bucket.modified.get(key, dated)
                yield ObjectInfo(key[cut:], len(data), _tag(data), modified)

    def check(self, *, write: bool = True, seconds: float = 6.0) -> StoreFacts:
        dated = datetime.now(UTC) if write else None
        return StoreFacts(self._source.url, "", "", "env", write, 0.0, dated)

    def directories(self, prefix: str = "") -> tuple[str, ...]:
        cut = len(self._source.key(prefix)) + 1 if self._source.key(prefix) else 0
        tails = [self._source.key(item.path)[cut:] for item in self.list(prefix)]
        return tuple(sorted({tail.partition("/")[0] for tail in tails if "/" in tail}))

    def stat(self, path: str) -> Attestation | None:
        key = self._note("stat", path)
        self._bucket.before_attest(key)
        data = self._bucket.objects.get(key)
        if data is None:
            return None
        value = checksums.digest_bytes(data).values["crc64nvme"]
        return Attestation(
            len(data),
            _tag(data),
            (Checksum("crc64nvme", value),),
            metadata=self._bucket.metadata.get(key, {}),
            modified=self._bucket.modified.get(key, datetime.now(UTC)),
        )

    def stat_many(self, paths: Iterable[str], workers: int = 1) -> Mapping[str, Attestation | None]:
        return {path: self.stat(path) for path in paths}

    def part_sizes(self, path: str, attestation: Attestation) -> tuple[int, ...] | None:
        return None

    def chunks(self, path: str, *, chunk_bytes: int = checksums.CHUNK_BYTES) -> Iterator[bytes]:
        data = self._bucket.objects.get(self._note("read", path))
        if data is None:
            raise ObjectMissingError(f"{self.url(path)} is not in the bucket.", hint="Look there.")
        for start in range(0, len(data), chunk_bytes):
            yield data[start : start + chunk_bytes]

    def get(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> bytes | None:
        data = self._bucket.objects.get(self._note("get", path))
        if data is not None and len(data) > limit:
            raise VerificationError(f"{self.url(path)} is too big.", hint="See what it is.")
        return data

    def at(self, source: Source) -> FakeStore:
        return type(self)(self._bucket, source)

    def read(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> Version:
        data, date = self.get(path, limit=limit), self._bucket.clock()
        if data is None:
            return Version(None, "", None, date)
        modified = self._bucket.modified.get(self._source.key(path), date)
        return Version(data, _tag(data), modified, date)

    def put(self, path: str, data: bytes) -> None:
        key = self._note("put", path)
        self._bucket.objects[key], self._bucket.modified[key] = data, self._bucket.clock()

    def put_if(self, path: str, data: bytes, *, tag: str | None) -> Version | None:
        key = self._source.key(path)
        self._bucket.before_put(key)
        with self._bucket.lock:
            there = self._bucket.objects.get(key)
            if self._bucket.conditions == "refused":
                raise UnsupportedConditionError(f"{self.url(path)}: no.", hint="Ask for less.")
            holds = there is None if tag is None else there is not None and _tag(there) == tag
            if not holds and self._bucket.conditions == "enforced":
                self._note("put", path)
                return None
            self.put(path, data)
            date = self._bucket.modified[key] = self._bucket.clock()
            return Version(data, _tag(data), date, date)

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            key = self._note("delete", path)
            self._bucket.before_delete(key)
            self._bucket.objects.pop(key, None)

    def abort_uploads(self) -> None:
        """Nothing is ever uploaded in parts."""


def _tag(data: bytes) -> str:
    return "etag-" + checksums.digest_bytes(data).values["crc64nvme"]


class FakeControl:
    """A daemon whose queue is a script: one answer a look, the last one again and again."""

    def __init__(self, cache: Path) -> None:
        self.gaps: tuple[LogGap, ...] = ()
        self.cache = cache
        self.listed: dict[str, WrittenFile] = {}
        self.script: list[Pending | Exception] = [Pending()]
        self.pushes = 0
        self.less: tuple[str, ...] = ()
        self.damaged: tuple[str, ...] = ()
        self.left_over: tuple[str, ...] = ()
        self.refreshed: list[str] = []
        self.refresh_error: MountUnavailableError | None = None
        self.error: tuple[float, str] | None = None
        self.open: set[str] = set()
        self.evict_error: OSError | None = None

    def flush_uploads(self) -> Pending:
        step = self.script[min(self.pushes, len(self.script) - 1)]
        self.pushes += 1
        if isinstance(step, Exception):
            raise step
        return step

    def files(self, below: str = "") -> tuple[WrittenFile, ...]:
        return tuple(
            file
            for path, file in sorted(self.listed.items())
            if not below or path.startswith(f"{below}/")
        )

    def reference(self, path: str) -> Reference | None:
        data = self.cache / path
        return Reference(digest_file(data), "mount", data) if data.is_file() else None

    def self_check(self) -> None:
        """It is where it is looked for."""

    def explain(self, path: str) -> str:
        return ""

    def partially_deleted(self, below: str = "") -> tuple[str, ...]:
        return tuple(top for top in self.less if top.startswith(below))

    def lost_before(self, below: str = "") -> tuple[str, ...]:
        return tuple(path for path in self.damaged if path.startswith(f"{below}/" if below else ""))

    def log_gaps(self) -> tuple[LogGap, ...]:
        return self.gaps

    def links_out(self) -> tuple[str, ...]:
        return ()

    def leftovers(self, below: str = "") -> tuple[str, ...]:
        return tuple(
            path for path in self.left_over if path.startswith(f"{below}/" if below else "")
        )

    def emptied(self, directory: str) -> float:
        return 0.0

    def repair_cache(self, quarantine: Path) -> tuple[str, ...]:
        return ()

    def last_error(self) -> tuple[float, str] | None:
        return self.error

    def content(self, path: str) -> bytes | None:
        data = self.cache / path
        return data.read_bytes() if data.is_file() else None

    def reconcile_leftovers(
        self, quarantine: Path, outdated: Iterable[str], missing: Iterable[str]
    ) -> None:
        """No earlier run left anything."""

    def evict(self, files: Iterable[WrittenFile]) -> tuple[str, ...]:
        if self.evict_error:
            raise self.evict_error
        stay = []
        for file in files:
            now = self.listed[file.path]
            if file.path in self.open or now.dirty or now.stamp != file.stamp:
                stay.append(file.path)
                continue
            del self.listed[file.path]
            (self.cache / file.path).unlink(missing_ok=True)
        return tuple(stay)

    def purge(self) -> None:
        for path in [path for path, file in self.listed.items() if not file.dirty]:
            del self.listed[path]
            (self.cache / path).unlink(missing_ok=True)

    def invalidate_directory(self, directory: str) -> None:
        self.refreshed.append(directory)
        if self.refresh_error:
            raise self.refresh_error


class FakeBackend:
    """A backend whose daemon is a shell script; ``ours`` decides whether the mount is."""

    name: ClassVar[str] = "fake"
    schemes: ClassVar[frozenset[str] | None] = None
    mounts: ClassVar[bool] = True
    unsupported_operations: ClassVar[frozenset[str]] = frozenset()
    write_back: ClassVar[bool] = True
    journaled: ClassVar[bool] = False
    links: ClassVar[str] = ""
    mark: ClassVar[str] = ""

    def __init__(self, folder: Path, script: str) -> None:
        self.script = script
        self.ours = True
        self.found_on: list[str] = []
        self.daemon = FakeControl(folder / "cache")

    def binary(self, search_path: str) -> Binary:
        self.found_on.append(search_path)
        return Binary("/bin/sh", (1,))

    def keeps(self, path: str) -> bool:
        return True

    def check_options(self, options: Sequence[tuple[str, str]]) -> None:
        """All are fine."""

    def command(
        self, spec: MountSpec, binary: Binary, directory: Path, environment: Mapping[str, str]
    ) -> DaemonCommand:
        return DaemonCommand((binary.path, "-c", self.script), environment, "text")

    def waiting(self, spec: MountSpec) -> tuple[str, ...]:
        return tuple(file.path for file in self.daemon.files() if file.dirty)

    def entry(self, target: str) -> MountEntry | None:
        return mount_table.at(target)

    def matches(self, entry: MountEntry, spec_id: str, device: int | None) -> bool:
        return self.ours

    def control(
        self, spec: MountSpec, directory: Path, deadline: Deadline | None = None
    ) -> FakeControl:
        return self.daemon


class FakeMount:
    """A mount whose files are in a directory and whose bucket is in memory."""

    def __init__(self, folder: Path) -> None:
        self.bucket = Bucket()
        self.daemon = FakeControl(folder / "cache")
        self.spec = MountSpec(
            Source("s3", "bucket", "run"),
            str(folder / "mnt"),
            "rclone",
            StoreOptions(),
            str(folder / "cache"),
        )
        for path in ("cache", "mnt", "state"):
            (folder / path).mkdir()
        self.source = self.spec.source.url
        self.directory = StateDirectory(folder / "state")
        self.alive = True
        self.stuck = ""
        self.stranger = ""
        self.lacks: frozenset[str] = frozenset()

    def serving(self) -> bool:
        return self.alive

    def missing(self, paths: Iterable[str], deadline: Deadline | None = None) -> frozenset[str]:
        return self.lacks.intersection(paths)

    def real(self, path: str) -> str:
        return f"{self.path}/{path}"

    def shadowed_by(self) -> str:
        return self.stranger

    def flush(self, deadline: Deadline | None = None) -> str:
        return self.stuck

    @property
    def path(self) -> str:
        return self.spec.target

    def control(self, deadline: Deadline | None = None) -> FakeControl:
        return self.daemon

    def store(
        self, path: str = "", patience: float | None = None, deadline: Deadline | None = None
    ) -> FakeStore:
        return FakeStore(self.bucket, self.spec.source.child(path))

    def record(self) -> Any:
        return self.directory.read()

    def last_record(self) -> Any:
        return self.directory.last()

    def begin(self, began: float = 0.0, **fields: Any) -> None:
        """Write the record that a session writes, of a mount made at that time."""
        me = ProcessIdentity.mine()
        self.directory.write(MountRecord(self.spec, SERVING, now(), me, began=began, **fields))

    def write(self, path: str, data: bytes = b"data", *, dirty: bool = False) -> None:
        """Write a file through the mount; the upload is another matter."""
        (self.daemon.cache / path).parent.mkdir(parents=True, exist_ok=True)
        (self.daemon.cache / path).write_bytes(data)
        self.daemon.listed[path] = WrittenFile(path, len(data), time.time(), dirty)

    def upload(self, path: str) -> None:
        """Let a file arrive in the bucket."""
        self.bucket.objects[self.spec.source.key(path)] = (self.daemon.cache / path).read_bytes()
        self.daemon.listed[path] = replace(self.daemon.listed[path], dirty=False)

    def save(self, path: str, data: bytes = b"data") -> None:
        """Write a file and let it arrive."""
        self.write(path, data)
        self.upload(path)

    def evict(self, path: str) -> None:
        """The daemon gives the room of a file back; the mount reads it from the store."""
        target = Path(self.path) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.daemon.cache / path).replace(target)
        del self.daemon.listed[path]


if TYPE_CHECKING:
    # For mypy: each fake is what it stands for, and so is what is loaded by its name.
    from mountkit.backends.direct.backend import DirectBackend
    from mountkit.backends.mountpoint.backend import MountpointBackend
    from mountkit.backends.rclone.backend import RcloneBackend
    from mountkit.store.s3.provider import S3Provider

    A_STORE: Store = FakeStore(Bucket(), Source("s3", "bucket", "run"))
    A_CONTROL: Control = FakeControl(Path())
    BACKENDS: tuple[Backend, ...] = (
        FakeBackend(Path(), ""),
        RcloneBackend(),
        MountpointBackend(),
        DirectBackend(),
    )
    A_PROVIDER: Provider = S3Provider()
