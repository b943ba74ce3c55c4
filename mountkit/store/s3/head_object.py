"""What a store says about one object, in a form that is the same for every store."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mountkit.store import checksums
from mountkit.store.base import Attestation

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


def attestation_of(response: Mapping[str, Any]) -> Attestation:
    """Read the answer to HeadObject; a checksum of the wrong length for its kind is left out."""
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
    encrypted = str(response.get("ServerSideEncryption", "")).startswith("aws:kms")
    return Attestation(
        size=int(response["ContentLength"]),
        etag=etag,
        checksums=MappingProxyType(found),
        composite=composite,
        parts=parts,
        etag_is_md5=not encrypted and "SSECustomerAlgorithm" not in response,
        # They travel as the names of headers, which have no case.
        metadata=MappingProxyType(
            {name.lower(): value for name, value in (response.get("Metadata") or {}).items()}
        ),
        modified=response.get("LastModified"),
    )
