"""What the answer to HeadObject means, for the stores there are."""

from __future__ import annotations

import pytest

from mountkit.store.s3.head_object import attestation_of

MD5 = '"900150983cd24fb0d6963f7d28e17f72"'
MULTI = '"900150983cd24fb0d6963f7d28e17f72-3"'
CRC64 = "r4sUhgp5mIg="
CRC32C = "4waSgw=="


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"ETag": MD5}, ({}, False, None, True)),
        ({"ETag": MULTI}, ({}, False, 3, True)),
        ({"ETag": MD5, "ChecksumCRC64NVME": CRC64}, ({"crc64nvme": CRC64}, False, None, True)),
        (
            {"ETag": MULTI, "ChecksumCRC64NVME": CRC64, "ChecksumType": "FULL_OBJECT"},
            ({"crc64nvme": CRC64}, False, 3, True),
        ),
        # S3 appends the number of parts to a composite, moto does not.
        (
            {"ETag": MULTI, "ChecksumCRC32C": f"{CRC32C}-3", "ChecksumType": "COMPOSITE"},
            ({"crc32c": CRC32C}, True, 3, True),
        ),
        (
            {"ETag": MULTI, "ChecksumCRC32C": CRC32C, "ChecksumType": "COMPOSITE"},
            ({"crc32c": CRC32C}, True, 3, True),
        ),
        # Stores from before ChecksumType.
        ({"ETag": MULTI, "ChecksumCRC32C": CRC32C}, ({"crc32c": CRC32C}, True, 3, True)),
        ({"ETag": MD5, "ChecksumCRC32C": CRC32C}, ({"crc32c": CRC32C}, False, None, True)),
        ({"ETag": "odd", "ChecksumCRC32C": f"{CRC32C}-7"}, ({"crc32c": CRC32C}, True, 7, True)),
        (
            {"ETag": MULTI, "ChecksumCRC64NVME": f"{CRC64}-3"},
            ({"crc64nvme": CRC64}, True, 3, True),
        ),
        # Encrypted: the ETag is 32 hex digits and yet no MD5 of the content.
        ({"ETag": MD5, "ServerSideEncryption": "AES256"}, ({}, False, None, True)),
        ({"ETag": MD5, "ServerSideEncryption": "aws:kms"}, ({}, False, None, False)),
        ({"ETag": MD5, "ServerSideEncryption": "aws:kms:dsse"}, ({}, False, None, False)),
        ({"ETag": MD5, "SSECustomerAlgorithm": "AES256"}, ({}, False, None, False)),
        # A value that is no checksum of its kind says nothing, and must not cry "altered".
        ({"ETag": MD5, "ChecksumCRC64NVME": CRC32C, "ChecksumSHA1": "?"}, ({}, False, None, True)),
    ],
)
def test_answers(answer, expected):
    seen = attestation_of({"ContentLength": 9, **answer})
    *others, last = seen.checksums or [None]
    is_md5 = last is not None and last.scope == "tag"
    told = others if is_md5 else seen.checksums
    values = {checksum.algorithm: checksum.value for checksum in told}
    composite = any(checksum.scope == "parts" for checksum in told)
    assert (values, composite, seen.parts) == expected[:3]
    assert not is_md5 or (last.algorithm, last.value) == ("md5", seen.tag)
    assert is_md5 == (expected[3] and seen.tag != "odd")
    assert {checksum.by for checksum in seen.checksums} <= {"store"}
    assert seen.size == 9
    assert '"' not in seen.tag


def test_metadata_has_no_case():
    seen = attestation_of({"ContentLength": 9, "ETag": MD5, "Metadata": {"Mtime": "12.5"}})
    assert dict(seen.metadata) == {"mtime": "12.5"}
