"""Changes a file through a mapping, closes it, and keeps the mapping.

``python mapped.py FILE GATES`` makes the file ``mapped`` in GATES, and ends once there is ``go``.
"""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

from light import wait_for


def main() -> None:
    path, gates = map(Path, sys.argv[1:])
    with path.open("r+b") as stream:
        mapping = mmap.mmap(stream.fileno(), 0)
    mapping[:6] = b"mapped"
    (gates / "mapped").touch()
    wait_for(gates / "go")
    del mapping


if __name__ == "__main__":
    main()
