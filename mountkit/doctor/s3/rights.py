"""The rights a save needs in a bucket, tried one by one; everything written is deleted again."""

from __future__ import annotations

from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mountkit.checkpoints.attestation import READ_BACK, attest_object
from mountkit.doctor import lease_check
from mountkit.doctor.findings import Finding
from mountkit.errors import MountkitError, PermissionDeniedError, VerificationError
from mountkit.store import base, checksums
from mountkit.store.s3 import error_codes, errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.store.s3.store import S3Store

BODY = b"mountkit doctor tried whether it may write here. This object can be deleted.\n" * 32
NOTHING = "nothing-was-written-here"
#: Not that of ``BODY``.
WRONG_CHECKSUM = "AAAAAAAAAAA="
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "list": "list objects",
        "put": "put an object",
        "get": "get an object",
        "delete": "delete an object",
        "abort": "abort an upload",
        "checksum": "checksums",
        **lease_check.TITLES,
        "leftover": "cleaning up",
    }
)
#: What S3 calls the right to do it.
RIGHTS = {
    **error_codes.PERMISSIONS,
    "put": error_codes.PERMISSIONS["write"],
    "get": error_codes.PERMISSIONS["read"],
}


class Rights:
    """Tries the rights on objects below the directory ``name`` of a store."""

    def __init__(self, store: S3Store, name: str) -> None:
        self._store = store
        self._bucket = store.source.bucket
        self._name = name
        # Noted before they are made: an answer that does not come does not tell what was done.
        self._objects: list[str] = []
        self._uploads: dict[str, str] = {}
        self._may_list = True
        self._tried_to_write = False

    @property
    def written(self) -> tuple[str, ...]:
        """The URLs of what may be in the bucket because of this."""
        begun = (f"{self._store.url(path)} (an unfinished upload)" for path in self._uploads)
        return (*map(self._store.url, self._objects), *begun)

    def list(self) -> None:
        """One request for one name. Raises what the store's client raises."""
        source = self._store.source
        below = f"{source.prefix}/" if source.prefix else ""
        self._store.client().list_objects_v2(Bucket=source.bucket, Prefix=below, MaxKeys=1)

    def listed(self, refused: MountkitError | None) -> Finding:
        """What came of ``list``."""
        self._may_list = refused is None
        return self._allowed("list") if refused is None else self._judge("list", refused)

    def put(self) -> Finding:
        """Write an object."""
        self._tried_to_write = True
        try:
            self._put("put")
        except MountkitError as error:
            if _denied("put", error):
                self._objects.remove(self._path("put"))
            return self._judge("put", error)
        return self._allowed("put")

    def get(self) -> Finding:
        """Read it back; where none could be written, ask for one that is not there."""
        there = self._path("put") in self._objects
        path = self._path("put" if there else NOTHING)
        try:
            data = self._store.get(path)
        except MountkitError as error:
            if not there and not self._may_list:
                # Who may not list is told "forbidden" of what is not there, whatever else he may.
                return _skipped("get", "No object could be written to be read.")
            return self._judge("get", error)
        if data is None and not there:
            return self._allowed("get", tried=False)
        if data is None:
            return self._wrong("get", f"{self._store.url(path)} was written and is not there.")
        if data != BODY:
            return self._wrong("get", f"{self._store.url(path)} came back with other bytes.")
        return self._allowed("get")

    def checksum(self) -> Finding:
        """What the store tells of an object's bytes, and with that what a proof costs."""
        name, title = "checksum", TITLES["checksum"]
        if self._path("put") not in self._objects:
            return _skipped(name, "No object could be written to ask about.")
        digest = checksums.digest_bytes(BODY, (checksums.REFERENCE, "md5"))
        # Where the store does not know this checksum, the other object has what it does know.
        sent = self._put_checksum("checksum", digest.values[checksums.REFERENCE])
        path = self._path("checksum" if sent else "put")
        try:
            verdict = attest_object(self._store, path, digest)
        except MountkitError as error:
            return Finding.of(name, title, error)
        if not verdict.ok:
            return self._wrong(
                name, f"{self._store.url(path)} holds {verdict.found}, not {verdict.expected}."
            )
        if verdict.attested_by == READ_BACK:
            detail = "The store tells none: to prove a checkpoint, all of it is read back."
            return Finding(name, title, "warning", detail)
        if verdict.attested_by != checksums.REFERENCE:
            detail = f"the store tells the {verdict.attested_by.upper()}, no CRC64NVME"
        elif self._put_checksum("wrong-checksum", WRONG_CHECKSUM):
            detail = (
                "The store repeats the CRC64NVME that it is sent and does not compare it with the "
                "bytes, so what is uploaded with one is proven by the uploader's word."
            )
            hint = "Use --backend rclone on this store, which sends none"
            return Finding(name, title, "warning", detail, hint)
        else:
            detail = "the store tells the CRC64NVME, and checks it"
        return Finding(name, title, "ok", detail)

    def _put_checksum(self, name: str, crc64nvme: str) -> bool:
        """Whether the store takes an object with that checksum."""
        try:
            self._put(name, ChecksumAlgorithm="CRC64NVME", ChecksumCRC64NVME=crc64nvme)
        except MountkitError:
            return False
        return True

    def _put(self, name: str, **checksum: Any) -> None:
        path = self._path(name)
        self._objects.append(path)
        with self._store.translated("write", path):
            self._store.client().put_object(
                Bucket=self._bucket, Key=self._key(path), Body=BODY, **checksum
            )

    def conditions(self) -> Finding:
        """Write under conditions, by which one of two writers is refused."""
        if self._path("put") not in self._objects:
            return Finding(
                "conditions", TITLES["conditions"], "skipped", "No object could be written."
            )
        path = self._path("condition")
        self._objects.append(path)
        return lease_check.conditions(self._store, path)

    def lease(self) -> Finding:
        """See who has the run."""
        return lease_check.lease(self._store)

    def abort(self) -> Finding:
        """Abort an upload that never was, and then one that is."""
        path, client = self._path("abort"), self._store.client()
        try:
            # Not begun yet: who may begin one and not abort it could not take it back.
            with (
                self._store.translated("abort an upload to", path),
                suppress(client.exceptions.NoSuchUpload),
            ):
                client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key(path), UploadId=NOTHING
                )
        except PermissionDeniedError as error:
            return self._judge("abort", error)
        except base.ObjectMissingError:
            pass  # Another way to say that there is no such upload.
        except MountkitError as error:
            return Finding.of("abort", TITLES["abort"], error)
        if self._path("put") not in self._objects:
            return self._allowed("abort", tried=False)
        try:
            with self._store.translated("write", path):
                answer = client.create_multipart_upload(Bucket=self._bucket, Key=self._key(path))
            begun = answer.get("UploadId", "")
            if not begun:
                return self._wrong("abort", f"{self._store.url(path)}: an upload without an id.")
            self._uploads[path] = begun
            with self._store.translated("abort an upload to", path):
                client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key(path), UploadId=begun
                )
        except MountkitError as error:
            return self._judge("abort" if self._uploads else "put", error)
        self._uploads.clear()
        return self._allowed("abort")

    def delete(self) -> Finding:
        """Delete what was written; where nothing was, something that is not there."""
        paths = tuple(self._objects)
        try:
            for path in paths or (self._path(NOTHING),):
                self._delete(path)
        except MountkitError as error:
            return self._judge("delete", error)
        return self._allowed("delete", tried=bool(paths))

    def clean_up(self) -> tuple[str, ...]:
        """Delete what is still there, and look whether anything is; the URLs of what stays."""
        if not self._tried_to_write:
            return ()
        for path in tuple(self._objects):
            with suppress(MountkitError):
                self._delete(path)
        with suppress(MountkitError):
            stays = [found.path for found in self._store.list(self._name)]
            self._objects = [path for path in self._objects if path in stays]
        return self.written

    def _delete(self, path: str) -> None:
        with self._store.translated("delete", path):
            self._store.client().delete_object(Bucket=self._bucket, Key=self._key(path))
        if path in self._objects:
            self._objects.remove(path)

    def _path(self, name: str) -> str:
        return f"{self._name}/{name}"

    def _key(self, path: str) -> str:
        return self._store.source.key(path)

    def _allowed(self, name: str, *, tried: bool = True) -> Finding:
        detail = RIGHTS[name] if tried else f"{RIGHTS[name]}, as far as can be told without writing"
        return Finding(name, TITLES[name], "ok", detail)

    def _judge(self, name: str, error: MountkitError) -> Finding:
        """Which right is missing, or what else went wrong."""
        code = _denied(name, error)
        if not code:
            return Finding.of(name, TITLES[name], error)
        source, right = self._store.source, RIGHTS[name]
        on = f"the bucket {source.bucket}" if name == "list" else f"{source.url}/*"
        detail = f"{right} is not allowed on {on} ({code})."
        hint = f"Allow it, then: mountkit doctor {source.url}"
        if name == "abort":
            detail += " The parts of uploads that break off stay, and are paid for."
            return Finding(name, TITLES[name], "warning", detail, hint)
        return Finding(name, TITLES[name], "failed", detail, hint, PermissionDeniedError.exit_code)

    def _wrong(self, name: str, detail: str) -> Finding:
        hint = "Look at what stands between: a proxy, a gateway, a cache"
        return Finding(name, TITLES[name], "failed", detail, hint, VerificationError.exit_code)


def _skipped(name: str, detail: str) -> Finding:
    return Finding(name, TITLES[name], "skipped", detail)


def _denied(name: str, error: MountkitError) -> str:
    """The store's code, if it is about what these credentials may do; otherwise ""."""
    code = errors.error_code(error.__cause__)
    if name == "put" and code == "InternalError":
        # What a store that serves read-only answers to a write.
        return f"{code}; it may be read-only"
    if not isinstance(error, PermissionDeniedError) or code in error_codes.REFUSED_CREDENTIALS:
        return ""
    return code
