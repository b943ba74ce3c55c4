"""What a store is: its protocol, and the values it answers with.

A refusal that is final is a PermissionDeniedError, a ConfigurationError or a VerificationError; one
that may pass, for the store is busy, ill or out of reach, is a MountUnavailableError or a
NotDurableError. Who waits for a store tries again after the latter two, and after no other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from mountkit.errors import ConfigurationError, VerificationError

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from mountkit.spec import Source, StoreOptions
    from mountkit.timing import Deadline

CHUNK_BYTES = 8 * 1024 * 1024

MIB = 1024 * 1024
SMALL_OBJECT_BYTES = 64 * MIB
WORKERS = 16


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as a listing shows it.

    ``path`` is relative to the source, ``size`` in bytes, ``modified`` with a time zone. ``tag`` is
    as in :class:`Attestation`.
    """

    path: str
    size: int
    tag: str
    modified: datetime


class Store(Protocol):
    """What the rest of mountkit asks of a store. Paths are relative to ``source``.

    It may be shared by threads. Every method raises one of the errors above that names the object,
    and TimeUpError once the store's deadline has passed.
    """

    #: Whether ``stat_many`` is a listing, which tells the checksums, and not a request for each.
    lists_checksums: ClassVar[bool]

    @property
    def source(self) -> Source:
        """The place all paths are relative to."""
        ...

    def at(self, source: Source) -> Store:
        """The same store at another place."""
        ...

    def url(self, path: str) -> str:
        """The URL of a path below the source."""
        ...

    def check(self, *, write: bool = True, seconds: float = 6.0) -> StoreFacts:
        """Try everything that a save will need, and say what is wrong, within ``seconds``.

        Without ``write`` nothing is written to try.
        """
        ...

    def list(self, prefix: str = "", *, markers: bool = False) -> Iterator[ObjectInfo]:
        """All objects below a directory, sorted by key.

        With ``markers`` also empty objects that stand for directories.
        """
        ...

    def directories(self, prefix: str = "") -> tuple[str, ...]:
        """The names of the directories directly below a directory."""
        ...

    def stat(self, path: str) -> Attestation | None:
        """What the store says about an object, or None if it is not there."""
        ...

    def stat_many(
        self, paths: Iterable[str], workers: int = WORKERS
    ) -> Mapping[str, Attestation | None]:
        """The same for many objects at a time."""
        ...

    def part_sizes(self, path: str, attestation: Attestation) -> tuple[int, ...] | None:
        """The sizes in bytes of the parts that a checksum of scope ``parts`` or ``tag`` is of.

        None if the store cannot say.
        """
        ...

    def chunks(self, path: str, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The bytes of an object, read back in order.

        Raises
        ------
        ObjectMissingError
            If the object is not there.
        ObjectChangedError
            If it was replaced while it was being read.
        """
        ...

    def get(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> bytes | None:
        """The bytes of a small object, or None if it is not there.

        Raises
        ------
        VerificationError
            If it has more than ``limit`` bytes.
        """
        ...

    def read(self, path: str, *, limit: int = SMALL_OBJECT_BYTES) -> Version:
        """A small object as it is now, or that it is not there, by the store's own clock.

        Raises VerificationError if it has more than ``limit`` bytes.
        """
        ...

    def put(self, path: str, data: bytes) -> None:
        """Write a small object, whole or not at all, in the place of one that is there."""
        ...

    def put_if(self, path: str, data: bytes, *, tag: str | None) -> Version | None:
        """Write a small object only in the place of the one with that tag, or, for None, of none.

        The object as it is then; None if the store refused, for it has another one. That may be
        this very one: where an answer was lost, the request was made again. **A store may ignore
        the condition**, and write in any case.

        Raises UnsupportedConditionError if the store takes no condition at all.
        """
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; one that is not there is no error."""
        ...

    def abort_uploads(self) -> None:
        """Drop what uploads that broke off have left below the source and no listing shows."""
        ...


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What ``Store.check`` found.

    ``region`` is the bucket's if the store tells, otherwise the one asked for. ``credentials`` says
    where they come from (``env``, ``shared-credentials-file``, ``iam-role``, ...), never what they
    are. ``written`` tells whether writing and deleting was tried, ``dated`` when that object was
    written by the store's own clock, None if it was not. ``seconds`` is how long it all took.
    """

    url: str
    endpoint_url: str
    region: str
    credentials: str
    written: bool
    seconds: float
    dated: datetime | None = None


@dataclass(frozen=True, slots=True)
class Checksum:
    """One checksum of an object.

    Parameters
    ----------
    algorithm:
        One of ``checksums.ALGORITHMS``.
    value:
        Base64; of scope ``tag`` as it is there: an MD5 in hex, of the parts' MD5s with ``-N``.
    scope:
        ``object``: of all bytes, and where it differs the bytes do. ``parts``: of the checksums of
        the object's parts one after the other. ``tag``: it is the object's tag. The latter two only
        ever prove: how an object was cut, and how its tag was made, may be inferred wrongly.
    by:
        Who computed it. What the ``client`` sent along and the store only repeats proves nothing.
    """

    algorithm: str
    value: str
    scope: Literal["object", "parts", "tag"] = "object"
    by: Literal["store", "client"] = "store"


@dataclass(frozen=True, slots=True)
class Attestation:
    """What the store itself says about one object.

    ``tag`` is an opaque word that changes whenever the object is written again, without quotes;
    "" if there is none. ``parts`` is None for an object uploaded in one piece. ``metadata`` is what
    whoever uploaded it has noted beside it, its names in lower case;
    ``modified`` is when, by the store's clock.
    """

    size: int
    tag: str
    checksums: tuple[Checksum, ...] = ()
    parts: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    modified: datetime | None = None

    def whole(self, algorithm: str) -> str:
        """The checksum of all bytes that the store computed, base64; "" if it has none."""
        return next(
            (
                checksum.value
                for checksum in self.checksums
                if checksum.algorithm == algorithm
                and checksum.scope == "object"
                and checksum.by == "store"
            ),
            "",
        )


@dataclass(frozen=True, slots=True)
class Version:
    """A small object at the moment ``date``, by the store's clock; None where it tells no time.

    ``data`` is None if the object is not there; then ``tag`` is "" and ``modified`` is None.
    """

    data: bytes | None
    tag: str
    modified: datetime | None
    date: datetime | None


@dataclass(frozen=True, slots=True)
class RcloneRemote:
    """How rclone reaches a source.

    ``configuration`` has the keys of its remote, none of them a secret, ``path`` what follows the
    remote's name and a colon. ``options`` is what daemon options about the remote begin with: they
    belong to the configuration too; "" where that is the remote's type and a dash. ``tag`` are the
    flags that put a word beside every object that is uploaded, under the name that was asked for;
    empty if the store has no room for it.

    ``private`` finds what else the configuration has, by the name of the section: secrets, which
    rclone does not read from its environment, and other remotes that this one refers to. The
    section of the remote itself is "". It is asked each time a daemon starts, so that a key that
    was changed is taken up, and may raise a ConfigurationError or a MountUnavailableError.
    """

    configuration: Mapping[str, str]
    path: str
    options: str
    tag: tuple[tuple[str, str], ...] = ()
    private: Callable[[], Mapping[str, Mapping[str, str]]] = dict


class Provider(Protocol):
    """All that the rest of mountkit has to know of the stores of one URL scheme."""

    #: The variables that a daemon needs to reach such a store.
    variables: ClassVar[re.Pattern[str]]
    #: Of these, what names a file.
    file_variables: ClassVar[tuple[str, ...]]
    #: For messages: where its credentials are given, and where a daemon looks for them.
    credentials: ClassVar[str]
    daemon_credentials: ClassVar[str]
    #: Options of rclone that mountkit sets itself for such a store.
    rclone_owned: ClassVar[frozenset[str]]

    def parse(self, url: str) -> Source:
        """Read a URL of this scheme.

        Raises
        ------
        UsageError
            If it names no place, or carries credentials.
        """
        ...

    def refusal_in(self, text: str) -> float | None:
        """For how many seconds a refusal that a daemon's error quotes may pass by itself.

        0 where it is final; None if the text quotes no refusal.
        """
        ...

    def options(self, given: StoreOptions, environment: Mapping[str, str]) -> StoreOptions:
        """The options, with the store's standard variables for those that were not given."""
        ...

    def environment(self, options: StoreOptions) -> Mapping[str, str]:
        """What a daemon's environment has beside the ``variables``."""
        ...

    def open(
        self,
        source: Source,
        options: StoreOptions,
        *,
        patience: float | None = None,
        deadline: Deadline | None = None,
    ) -> Store:
        """The store; nothing is asked of it yet.

        ``patience`` is about how many seconds one request may go unanswered, retries included.
        After the ``deadline`` nothing is asked any more.
        """
        ...

    def rclone_remote(
        self, source: Source, options: StoreOptions, tag: tuple[str, str]
    ) -> RcloneRemote:
        """How rclone names it; ``tag`` is the name and the value that every upload gets."""
        ...

    def list_command(self, url: str) -> str:
        """What a person types to see what is at a URL."""
        ...

    def delete_command(self, url: str) -> str:
        """What a person types to delete all below a URL."""
        ...


class UnsupportedConditionError(ConfigurationError):
    """The store refuses to write under a condition, whatever the condition is."""


class ObjectMissingError(VerificationError):
    """An object that was read is not in the bucket (any more)."""


class ObjectChangedError(VerificationError):
    """An object was replaced while it was being read."""
