"""Names that look like what rclone writes in the place of other names."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from mountkit.formatting import printable
from support.rig import assert_same

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

KEPT = [
    " before",
    "after ",
    "dot.",
    ".hidden",
    "\uff0e",
    "\uff0e\uff0e",
    "a\uff0fb",
    "\u2400",
    "a\u2420",
    "back\\slash",
    'a:b*c?d"e<f>g|h',
    "\uff5e\uff1a",
    "%2F%E2",
    "\ufffd",
]
# What rclone stores under another name, and what it is stored as.
ALTERED = {
    "a\u201bb": "a\u201b\u201bb",
    "\u201b": "\u201b\u201b",
    "twice/\u201b\u201b": "twice/\u201b\u201b",
    "\u201bFF": "\u201b\u201bFF",
    "\u201b\uff0e": "\u201b\uff0e",
    "a\u2409b": "a\tb",
    "\u2421": "\x7f",
    "\u201b\u2409": "\u2409",
    "folder\u201b/file": "folder\u201b\u201b/file",
}

WRITE = """
import sys
from pathlib import Path
top = Path(sys.argv[1])
for number, name in enumerate(sys.argv[2:]):
    path = top / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * (1000 + number))
"""

# As it is advised, each by the name that the mount shows.
RENAME = """
import os, sys
from pathlib import Path
top = Path(sys.argv[1])
found = [Path(folder) / name for folder, _, names in os.walk(top) for name in names]
found = [path for path in found if path.name != "mountkit-lease.json"]
for number, path in enumerate(sorted(found)):
    path.rename(top / f"file-{number}")
"""


@pytest.mark.fault(39)
def test_what_stands_for_another_name_is_kept_or_refused(rig: Rig, bucket: Bucket) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    # A key is the path on Mountpoint, so it keeps these, too.
    kept = [*KEPT, *([] if rig.write_back else ["a\u201bb", "folder\u201b/file"])]
    source = f"s3://{bucket.name}/kept"
    answer = rig.run(source, [sys.executable, "-c", WRITE, str(rig.target), *kept])
    assert answer.code == 0, answer
    expected = {name: b"x" * (1000 + number) for number, name in enumerate(kept)}
    assert_same(bucket.files("kept"), expected)
    if not rig.write_back:
        return

    source = f"s3://{bucket.name}/altered"
    answer = rig.run(source, [sys.executable, "-c", WRITE, str(rig.target), *ALTERED])
    assert answer.code == 75, answer
    named = [line for line in answer.err.splitlines() if "not proven: " in line]
    assert len(named) == len(ALTERED), answer
    for name in ALTERED.values():
        assert f"not proven: {printable(name)} (" in answer.err, answer
    assert all("rename it" in line for line in named), answer
    # Nothing is lost, and once they are renamed all is well.
    everything = {b"x" * (1000 + number) for number in range(len(ALTERED))}
    assert {*bucket.files("altered").values()} == everything
    again = rig.run(source, [sys.executable, "-c", RENAME, str(rig.target)])
    assert again.code == 0, again
    # A file that the mount shows under two names for a while may be there twice.
    renamed = bucket.files("altered")
    assert {*renamed.values()} == everything
    assert all(name.startswith("file-") for name in renamed)
