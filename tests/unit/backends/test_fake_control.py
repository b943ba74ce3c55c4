"""The control that the unit tests are handed does what those of the backends do."""

from __future__ import annotations

import pytest

from support.control_contract import ControlContract, EndedContract
from support.fakes import FakeMount


class Held:
    def __init__(self, mount: FakeMount) -> None:
        self.control, self.store = mount.daemon, mount.store()
        self._mount = mount

    def write(self, path: str, text: str) -> None:
        self._mount.write(path, text.encode(), dirty=True)

    def remove(self, path: str) -> None:
        (self._mount.daemon.cache / path).unlink()
        del self._mount.daemon.listed[path]

    def upload(self, path: str) -> None:
        self._mount.upload(path)

    def end(self) -> None:
        """Nothing runs."""


@pytest.fixture
def held(tmp_path) -> Held:
    (tmp_path / "mount").mkdir()
    return Held(FakeMount(tmp_path / "mount"))


class TestServing(ControlContract):
    pass


class TestEnded(EndedContract):
    pass
