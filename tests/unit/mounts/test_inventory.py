"""What is in the store, and what an earlier run left on this machine, before a mount is made."""

from __future__ import annotations

import pytest

from mountkit.errors import MountUnavailableError
from mountkit.linux.process import ProcessIdentity
from mountkit.mounts.inventory import take_inventory
from mountkit.names import MANIFEST_NAME
from mountkit.state.proof_stats import Proven
from support.fakes import FakeMount

STATE = "checkpoint-10/trainer_state.json"


@pytest.fixture
def mount(tmp_path) -> FakeMount:
    return FakeMount(tmp_path)


@pytest.mark.fault(37)
class TestUnproven:
    @pytest.mark.parametrize("below", ["", "sub/", "sub/deeper/"])
    def test_a_checkpoint_that_was_uploaded_and_not_proven(self, mount, below):
        mount.begin()
        mount.save(f"{below}{STATE}")
        assert take_inventory(mount).unproven == (f"{below}checkpoint-10",)

    def test_one_request_for_each_directory_and_not_for_each_file(self, mount):
        mount.begin()
        for name in ("sub/checkpoint-10/a", "sub/checkpoint-10/b/c", "sub/checkpoint-20/a", "log"):
            mount.save(name)
        assert take_inventory(mount).unproven == ("sub/checkpoint-10", "sub/checkpoint-20")
        assert len(mount.bucket.asked("stat")) == 2

    def test_one_with_a_manifest_is_proven(self, mount):
        mount.begin()
        mount.save(f"sub/{STATE}")
        mount.bucket.objects[f"run/sub/checkpoint-10/{MANIFEST_NAME}"] = b"{}"
        assert take_inventory(mount).unproven == ()

    def test_one_that_waits_is_brought_in_any_case(self, mount):
        mount.begin()
        mount.write(f"sub/{STATE}", dirty=True)
        assert take_inventory(mount).unproven == ()

    def test_of_directories_with_nothing_here_the_store_is_not_asked(self, mount):
        mount.bucket.objects[f"run/sub/{STATE}"] = b"{}"
        assert take_inventory(mount).unproven == ()
        assert mount.bucket.asked("stat") == []

    def test_one_that_the_store_has_lost_is_missed_if_its_run_was_killed(self, mount):
        mount.begin()
        mount.save(f"sub/{STATE}")
        mount.bucket.objects.clear()
        assert take_inventory(mount).unproven == ("sub/checkpoint-10",)

    def test_one_that_was_proven_and_is_gone_was_removed(self, mount):
        mount.begin()
        mount.save(f"sub/{STATE}")
        mount.directory.proof_stats.proved(
            Proven("sub/checkpoint-10", 10, "2024-05-06T07:08:09.000Z")
        )
        mount.bucket.objects.clear()
        assert take_inventory(mount).unproven == ()

    def test_one_that_is_gone_and_whose_run_came_to_its_end_was_removed(self, mount):
        mount.save(f"sub/{STATE}")
        mount.bucket.objects.clear()
        assert take_inventory(mount).unproven == ()


@pytest.mark.fault(15)
class TestACacheThatIsGone:
    @pytest.fixture(autouse=True)
    def gone(self, mount, monkeypatch):
        def fail(below=""):
            raise MountUnavailableError("taken away")

        monkeypatch.setattr(mount.daemon, "files", fail)

    def test_while_its_daemon_runs_is_an_error(self, mount):
        mount.begin(daemon=ProcessIdentity.mine())
        with pytest.raises(MountUnavailableError, match="taken away"):
            take_inventory(mount)

    def test_of_a_mount_that_is_no_more_is_nothing_to_take_over(self, mount):
        assert take_inventory(mount).unproven == ()
        mount.begin(daemon=ProcessIdentity(0, 0, ""))
        assert take_inventory(mount).unproven == ()
