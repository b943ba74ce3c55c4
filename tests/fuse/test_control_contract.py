"""Each backend's control, on a daemon that runs and on one that has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mountkit.mounts.mount import Mount
from mountkit.state.registry import State
from support.control_contract import ControlContract, EndedContract
from support.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.rig import Server

WRITE = 'mkdir -p "$(dirname "$1")" && printf %s "$2" > "$1"'


class Mounted:
    """A mount of a rig; what is written to it is written by another process."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        answer = rig.mount(f"s3://{rig.bucket().name}/run", *rig.late)
        assert answer.code == 0, answer
        mount = Mount.containing(rig.target, State(rig.state))
        assert mount is not None
        self.control = mount.control()
        self.store = mount.store()

    def _do(self, *words: str) -> None:
        answer = self.rig.start(*words).wait()
        assert answer.code == 0, answer

    def write(self, path: str, text: str) -> None:
        self._do("sh", "-c", WRITE, "sh", f"{self.rig.target}/{path}", text)

    def remove(self, path: str) -> None:
        self._do("rm", f"{self.rig.target}/{path}")

    def upload(self, path: str) -> None:
        """It arrives once the daemon is pushed."""

    def end(self) -> None:
        answer = self.rig.umount("--discard")
        assert answer.code == 0, answer


@pytest.fixture(scope="class")
def held(fuse: None, backend: str, server: Server) -> Iterator[Mounted]:
    rig = Rig.make(backend, server)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in rig.environment().items():
            if name.startswith("AWS_"):
                patch.setenv(name, value)
        try:
            yield Mounted(rig)
            rig.umount("--discard")
            left = rig.left()
        finally:
            rig.sweep()
    assert left == []


class TestServing(ControlContract):
    pass


class TestEnded(EndedContract):
    pass
