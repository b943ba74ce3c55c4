"""The one rename of a distributed checkpoint, on a mount that takes no rename.

torch writes ``.metadata.tmp`` and renames it to ``.metadata`` (torch 2.15,
``torch/distributed/checkpoint/filesystem.py``, ``_FileSystemWriter.finish``), last, by one rank for
all. On such a mount a file appears when it is closed, as a whole: so its bytes are written once
more under the last name, and nobody ever sees half of them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE = "torch.distributed.checkpoint.filesystem"
#: The functions to replace, as for ``hooks``.
FUNCTIONS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {MODULE: ((MODULE, "FileSystem.rename"),)}
)
ENDING = ".metadata"
COPY_BYTES = 1024 * 1024


def is_metadata(path: Any) -> bool:
    """Whether the file is one that torch renames so: any other rename is left to the mount."""
    return isinstance(path, str | os.PathLike) and os.fspath(path).endswith(ENDING)


def move(old: Any, file: Any) -> None:
    """Write the bytes of ``old`` to ``file``, whole, and then remove it.

    Raises OSError if either cannot be done.
    """
    with file, Path(old).open("rb") as stream:
        shutil.copyfileobj(stream, file, COPY_BYTES)
    Path(old).unlink()
