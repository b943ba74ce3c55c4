"""What the tests of the supervisor share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    watched = Watch(tmp_path)
    yield watched
    watched.end()
