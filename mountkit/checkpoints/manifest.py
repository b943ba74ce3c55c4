"""The manifest: the one object whose presence makes a directory a checkpoint. Format 1."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mountkit.errors import VerificationError
from mountkit.names import MANIFEST_NAME
from mountkit.store import checksums

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 1
LAST_YEAR = 9000
_HINT = "It cannot be trusted; resume from an older checkpoint: mountkit latest URL"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a checkpoint.

    Parameters
    ----------
    path:
        Relative to the checkpoint, ``/``-separated.
    size:
        In bytes.
    crc64nvme:
        Base64 of the 8 bytes of the checksum of the whole file.
    reference:
        Where the checksum was taken: ``write`` while writing, ``mount`` read back from the mount.
    attested_by:
        The rung of the ladder that proved the object, such as ``crc64nvme`` or ``read-back``.
    etag:
        The object's tag when it was proven, or "" if not recorded: while it stays, one listing
        shows that the object was not touched.
    """

    path: str
    size: int
    crc64nvme: str
    reference: str
    attested_by: str
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a proven checkpoint consists of.

    ``created`` has a time zone; ``files`` is kept sorted by path. ``saved`` tells which of two
    checkpoints was saved later, and not merely proven later (see ``lineage``); None in a manifest
    of an older mountkit. ``epoch`` is that of the lease that its writer had, which lies at the URL
    ``run``; None and "" without one (see ``lease``).

    Raises VerificationError if a path leads outside the directory, is there twice, or is the
    manifest's own, or a size checksum or time is impossible. It holds for a manifest being made and
    for one being read.
    """

    step: int
    created: datetime
    source: str
    files: tuple[FileEntry, ...]
    saved: datetime | None = None
    epoch: int | None = None
    run: str = ""

    def __post_init__(self) -> None:
        if not _whole(self.step):
            raise VerificationError(f"{self.step!r} is not a step.", hint=_HINT)
        if self.created.tzinfo is None or (self.saved and self.saved.tzinfo is None):
            raise VerificationError("The manifest's time has no time zone.", hint=_HINT)
        if self.epoch is not None and not _whole(self.epoch):
            raise VerificationError(f"{self.epoch!r} is not an epoch.", hint=_HINT)
        if self.saved and self.saved.year > LAST_YEAR:
            # Nothing could be saved after it.
            raise VerificationError(f"{self.saved} is no time of a save.", hint=_HINT)
        if not self.files:
            raise VerificationError("The manifest lists no file.", hint=_HINT)
        check_files(self.files)
        object.__setattr__(self, "files", tuple(sorted(self.files, key=lambda item: item.path)))

    def to_bytes(self) -> bytes:
        """The manifest as UTF-8 JSON, one line per entry's field, the same for equal manifests."""
        document = {
            "format": FORMAT,
            "step": self.step,
            "created": self.created.isoformat(),
            **({"saved": self.saved.isoformat()} if self.saved else {}),
            "source": self.source,
            **({"epoch": self.epoch, "run": self.run} if self.epoch is not None else {}),
            "files": [
                {name: value for name, value in asdict(entry).items() if value or name != "etag"}
                for entry in self.files
            ],
        }
        return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str = MANIFEST_NAME) -> Manifest:
        """Read a manifest; keys it does not know are passed over.

        ``data``: What the object holds. ``where``: Its URL, for messages.

        Raises VerificationError if it is no manifest of this format, or one that must not be
        trusted.
        """
        document = read_document(data, where, FORMAT)
        listed = read_field(document, "files", list, where)
        created = read_time(read_field(document, "created", str, where), where)
        saved, epoch, run = (document.get(name) for name in ("saved", "epoch", "run"))
        try:
            manifest = cls(
                step=read_field(document, "step", int, where),
                created=created,
                source=read_field(document, "source", str, where),
                files=tuple(read_entry(item, where) for item in listed),
                saved=read_time(saved, where) if isinstance(saved, str) else None,
                epoch=None if epoch is None else read_field(document, "epoch", int, where),
                run=run if isinstance(run, str) else "",
            )
        except VerificationError as error:
            raise VerificationError(f"{where}: {error.message}", hint=error.hint) from error
        return manifest


def check_path(path: str) -> None:
    """Refuse a path that could lead outside its directory, or that no object can have.

    Raises VerificationError if it is empty or absolute, has an empty, ``.`` or ``..`` segment or a
    NUL, is not UTF-8, or is the manifest's own name.
    """
    if path == MANIFEST_NAME:
        raise VerificationError("A manifest must not list itself.", hint=_HINT)
    if "\0" in path or any(segment in {"", ".", ".."} for segment in path.split("/")):
        raise VerificationError(
            f"{path!r} is not a path inside the checkpoint's directory.", hint=_HINT
        )
    try:
        path.encode()
    except UnicodeEncodeError:
        raise VerificationError(
            f"{path!r} is not UTF-8, so no object can have this name.",
            hint="Rename the file.",
        ) from None


def check_files(files: Iterable[FileEntry]) -> None:
    """Refuse files that no checkpoint can have, or one that is there twice.

    Raises VerificationError, naming the file.
    """
    seen: set[str] = set()
    for entry in files:
        check_path(entry.path)
        if entry.path in seen:
            raise VerificationError(f"{entry.path!r} is in the manifest twice.", hint=_HINT)
        seen.add(entry.path)
        if not _whole(entry.size):
            raise VerificationError(
                f"{entry.path!r} has an impossible size in the manifest: {entry.size!r}.",
                hint=_HINT,
            )
        if checksums.decode(entry.crc64nvme) is None:
            raise VerificationError(f"{entry.path!r} has no CRC64NVME in the manifest.", hint=_HINT)


def read_document(data: bytes, where: str, number: int) -> dict[str, Any]:
    """The JSON object of a manifest, or of a receipt, of that format.

    Raises VerificationError if it is none.
    """
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise VerificationError(
            f"{where} is not JSON ({type(error).__name__}).", hint=_HINT
        ) from error
    if not isinstance(document, dict):
        raise VerificationError(f"{where} is not a JSON object.", hint=_HINT)
    found = document.get("format")
    if found != number or isinstance(found, bool):
        raise VerificationError(
            f"{where} has format {found!r}; this mountkit reads format {number}.",
            hint="Use the mountkit that wrote it, or a newer one: pip install -U mountkit",
        )
    return document


def read_entry(item: object, where: str) -> FileEntry:
    """A file of a manifest or a receipt. Raises VerificationError if it is none."""
    if not isinstance(item, dict):
        raise VerificationError(f"{where} has an entry that is not a JSON object.", hint=_HINT)
    etag = item.get("etag", "")
    return FileEntry(
        path=read_field(item, "path", str, where),
        size=read_field(item, "size", int, where),
        crc64nvme=read_field(item, "crc64nvme", str, where),
        reference=read_field(item, "reference", str, where),
        attested_by=read_field(item, "attested_by", str, where),
        etag=etag if isinstance(etag, str) else "",
    )


def read_field(document: dict[str, Any], name: str, kind: type, where: str) -> Any:
    """What a key holds. Raises VerificationError if it is of another kind."""
    value = document.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise VerificationError(f"{where} has no valid {name!r}.", hint=_HINT)
    return value


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def read_time(text: str, where: str) -> datetime:
    """A moment in RFC 3339. Raises VerificationError if it is none."""
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise VerificationError(f"{where} has no valid time: {text!r}.", hint=_HINT) from error
