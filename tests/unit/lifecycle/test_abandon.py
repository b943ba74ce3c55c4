"""A mount that was made, and that nobody wants after all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mountkit.lifecycle.open import NOBODY, abandon
from mountkit.linux.process import ProcessIdentity
from mountkit.state.record import FAILED, MOUNTING, SERVING
from support.fakes import FakeMount


class FakeMounter:
    """Has a daemon, or none, of its own or adopted."""

    def __init__(self, mount: FakeMount) -> None:
        self.directory = mount.directory
        self.daemon: object | None = object()
        self.adopted = False
        self.kills = 0

    def kill(self) -> None:
        self.kills += 1


class Made:
    def __init__(self, folder) -> None:
        self.mount = FakeMount(folder)
        self.mount.begin(daemon=ProcessIdentity.mine())
        self.mounter = FakeMounter(self.mount)

    def change(self, **fields) -> None:
        self.mount.directory.write(replace(self.mount.record(), **fields))


@pytest.fixture
def made(tmp_path) -> Made:
    return Made(tmp_path)


@pytest.mark.fault(5, 37)
class TestAbandon:
    @pytest.mark.parametrize("state", [MOUNTING, SERVING])
    def test_its_daemon_ends_and_what_was_written_stays_known(self, made, state):
        made.change(state=state)
        abandon(made.mounter)
        assert made.mounter.kills == 1
        assert made.mount.record() is None
        assert made.mount.directory.unfinished() is not None
        abandon(made.mounter)
        assert made.mounter.kills == 1, "once more does nothing"

    def test_one_that_was_taken_over_serves_on_for_the_next(self, made):
        made.mounter.adopted = True
        abandon(made.mounter)
        assert made.mounter.kills == 0
        assert made.mount.record().supervisor == NOBODY
        assert made.mount.record().daemon.alive()

    def test_one_that_had_no_daemon_yet_leaves_no_record(self, made):
        made.mounter.daemon = None
        made.change(state=MOUNTING, daemon=None)
        abandon(made.mounter)
        assert made.mount.record() is None

    @pytest.mark.parametrize("fields", [{"supervisor": NOBODY}, {"state": FAILED}], ids=str)
    def test_what_is_not_of_this_one_stays(self, made, fields):
        made.mounter.daemon = None
        made.change(**fields)
        before = made.mount.record()
        abandon(made.mounter)
        assert made.mount.record() == before

    def test_of_nothing_there_is_nothing_to_do(self, made):
        made.mount.directory.clear()
        abandon(made.mounter)
        assert made.mounter.kills == 0
        assert made.mount.directory.unfinished() is None
