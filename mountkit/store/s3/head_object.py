"""What a store says about one object, in a form that is the same for every store."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from mountkit.store import checksums
from mountkit.store.base import Attestation, Checksum

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHECKSUM_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "crc64nvme": "ChecksumCRC64NVME",
        "crc32c": "ChecksumCRC32C",
        "crc32": "ChecksumCRC32",
        "sha256": "ChecksumSHA256",
        "sha1": "ChecksumSHA1",
    }
)

# What an ETag looks like that is the MD5 of the object, or of the MD5s of its parts.
_MD5 = re.compile(r"[0-9a-f]{32}(?:-[0-9]+)?")


def attestation_of(response: Mapping[str, Any]) -> Attestation:
    """Read the answer to HeadObject; a checksum of the wrong length for its kind is left out.

    Each is the store's own: S3 compares what it is sent with the bytes. The ETag is an MD5 too,
    but for encryption, and it is the last in the order.
    """
    etag = str(response.get("ETag", "")).strip('"')
    _, dash, count = etag.partition("-")
    parts = int(count) if dash and count.isdigit() else None
    found: dict[str, str] = {}
    composite = response.get("ChecksumType") == "COMPOSITE"
    for algorithm, name in _CHECKSUM_FIELDS.items():
        value, dash, count = str(response.get(name) or "").partition("-")
        if not value or checksums.decode(value, algorithm) is None:
            continue
        found[algorithm] = value
        if dash and count.isdigit():
            composite, parts = True, int(count)
    if found and "ChecksumType" not in response and parts is not None and "crc64nvme" not in found:
        # Older stores do not say; of several parts, only CRC64NVME is always of the whole object.
        composite = True
    scope: Literal["object", "parts"] = "parts" if composite else "object"
    told = [Checksum(algorithm, value, scope) for algorithm, value in found.items()]
    encrypted = str(response.get("ServerSideEncryption", "")).startswith("aws:kms")
    if not encrypted and "SSECustomerAlgorithm" not in response and _MD5.fullmatch(etag):
        told.append(Checksum("md5", etag, "tag"))
    return Attestation(
        size=int(response["ContentLength"]),
        tag=etag,
        checksums=tuple(told),
        parts=parts,
        # They travel as the names of headers, which have no case.
        metadata=MappingProxyType(
            {name.lower(): value for name, value in (response.get("Metadata") or {}).items()}
        ),
        modified=response.get("LastModified"),
    )
