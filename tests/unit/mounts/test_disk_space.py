"""Whether one more checkpoint fits on the disk of the cache."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mountkit.backends.base import WrittenFile
from mountkit.config.timeouts import Limits
from mountkit.errors import MountUnavailableError
from mountkit.events import Problem
from mountkit.mounts.disk_space import available, shortage
from mountkit.proof.committer import Prover
from support.fakes import FakeMount

HUGE = 10**18


@pytest.fixture
def mount(tmp_path) -> FakeMount:
    mount = FakeMount(tmp_path)
    mount.spec = replace(mount.spec, cache_dir=str(tmp_path))
    return mount


def test_what_is_uploaded_makes_room_and_what_waits_does_not():
    files = [WrittenFile("sent", 10, 0.0, dirty=False), WrittenFile("waits", 100, 0.0, dirty=True)]
    assert available(1, files) == 11


@pytest.mark.fault(15)
class TestShortage:
    def test_it_names_the_checkpoint_and_the_disk(self, mount, tmp_path):
        told = shortage(mount, "checkpoint-20", HUGE)
        assert told.startswith(f"checkpoint-20 may not fit on the disk of {tmp_path}: ")
        assert "took 1,000,000,000,000 MB" in told

    @pytest.mark.parametrize("size", [0, 1])
    def test_not_where_it_fits_or_nobody_knows_its_size(self, mount, size):
        assert shortage(mount, "checkpoint-20", size) == ""

    def test_not_where_nothing_is_cached(self, mount):
        mount.spec = replace(mount.spec, backend="mountpoint")
        assert shortage(mount, "checkpoint-20", HUGE) == ""

    def test_a_disk_that_cannot_be_looked_at(self, mount, tmp_path):
        mount.spec = replace(mount.spec, cache_dir=str(tmp_path / "none"))
        assert "is not known" in shortage(mount, "checkpoint-20", 1)

    def test_a_cache_that_cannot_be_read(self, mount):
        def files(_: str = "") -> tuple[WrittenFile, ...]:
            raise MountUnavailableError("The local cache cannot be read.")

        mount.daemon.files = files
        assert "cannot be read" in shortage(mount, "checkpoint-20", 1)

    def test_it_is_told_before_the_save_after_a_large_one(self, mount):
        events: list[object] = []
        prover = Prover(mount, "", Limits(stall=0.05, drain=60.0, repair=0.05), events.append)
        prover.begin("checkpoint-10")
        mount.save("checkpoint-10/model", b"123")
        prover.prove("checkpoint-10", 10, ["model"])
        assert not [event for event in events if isinstance(event, Problem)]
        # It is gone from the cache, and what waits there has taken the disk.
        mount.spec = replace(mount.spec, cache_dir="/proc/self/fd")
        mount.daemon.listed.clear()
        prover.begin("checkpoint-20")
        (told,) = [event for event in events if isinstance(event, Problem)]
        assert told.reason.startswith("checkpoint-20 may not fit")
