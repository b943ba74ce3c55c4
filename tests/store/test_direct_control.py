"""The direct backend's control, on a disk that is mounted: the contract of every control."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mountkit.backends.direct.control import DirectControl
from mountkit.spec import MountSpec, StoreOptions
from support.control_contract import ControlContract, EndedContract

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.stores import Place


class Saved:
    """A directory that a run saves into."""

    def __init__(self, place: Place, private: Path) -> None:
        self.store = place.store
        self._top = Path(place.store.source.directory)
        spec = MountSpec(place.store.source, str(self._top), "direct", StoreOptions(), str(private))
        self.control = DirectControl(spec, private)
        self.control.self_check()

    def write(self, path: str, text: str) -> None:
        (self._top / path).parent.mkdir(parents=True, exist_ok=True)
        (self._top / path).write_text(text)

    def remove(self, path: str) -> None:
        (self._top / path).unlink()

    def upload(self, path: str) -> None:
        """It is where it belongs."""

    def end(self) -> None:
        """Nothing does."""


@pytest.fixture
def held(place_on: Callable[[str], Place], tmp_path: Path) -> Saved:
    return Saved(place_on("disk"), tmp_path)


class TestServing(ControlContract):
    pass


class TestEnded(EndedContract):
    pass
