"""The checksum that HDFS keeps of a file: of the CRC32Cs of its blocks, computed by data nodes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mountkit.store import checksums
from mountkit.store.base import Checksum

if TYPE_CHECKING:
    from collections.abc import Mapping

# The CRCs a block has, and of how many bytes each is of: only of 512 it is computed here.
_ALGORITHM = re.compile(rf"MD5-of-\d+MD5-of-{checksums.HDFS_CHUNK_BYTES}CRC32C")
# Four bytes and eight that say the same as the name, then the MD5.
_MD5 = slice(12, 28)


def read(answer: Mapping[str, Any]) -> Checksum | None:
    """What GETFILECHECKSUM tells; None if it is of a kind that is not computed here."""
    if not _ALGORITHM.fullmatch(str(answer.get("algorithm", ""))):
        return None
    try:
        raw = bytes.fromhex(str(answer.get("bytes", "")))
    except ValueError:
        return None
    value = raw[_MD5]
    if len(value) != _MD5.stop - _MD5.start:
        return None
    return Checksum(checksums.HDFS, checksums.encode(value), "parts")
