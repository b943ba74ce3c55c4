"""Where a measurement takes place: a directory, and versitygw with a log of its requests."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.versity import Versity

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "bench"


@dataclass(frozen=True)
class Stage:
    """The store, all that is written beside it, and what was asked of it."""

    server: Versity
    scratch: Path
    log: Path

    def asked(self) -> int:
        """How many requests the store has noted so far."""
        return self.log.read_bytes().count(b"\n") if self.log.exists() else 0


@contextmanager
def stage(directory: Path | None = None) -> Iterator[Stage]:
    """A store with an empty bucket, which mountkit in this environment uses from now on."""
    binary = shutil.which("versitygw") or sys.exit(
        "versitygw is not on PATH; see .ci/setup --tools"
    )
    with tempfile.TemporaryDirectory(prefix="mkb-", dir=directory) as name:
        scratch = Path(name)
        log = scratch / "requests.log"
        with Versity(scratch / "store", binary, "--access-log", str(log)) as server:
            os.environ.update(
                MOUNTKIT_STATE_DIR=str(scratch / "s"),
                MOUNTKIT_CACHE_DIR=str(scratch / "c"),
                MOUNTKIT_ENDPOINT_URL=server.endpoint_url,
                **server.environment(),
            )
            (server.data / BUCKET).mkdir()
            yield Stage(server, scratch, log)
