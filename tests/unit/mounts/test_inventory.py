"""What is in the store, and what an earlier run left on this machine, before a mount is made."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mountkit.checkpoints.lease import Holder
from mountkit.checkpoints.lease_object import Unheld
from mountkit.checkpoints.manifest import FileEntry, Manifest
from mountkit.errors import MountUnavailableError, PermissionDeniedError
from mountkit.lifecycle import leases
from mountkit.linux.process import ProcessIdentity
from mountkit.mounts.inventory import take_inventory
from mountkit.names import LEASE_NAME, MANIFEST_NAME
from mountkit.state import writer_epoch
from mountkit.state.proof_stats import Proven
from support.fakes import FakeMount, FakeStore
from support.leases import lease_of

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


@pytest.mark.fault(36)
class TestTheLease:
    ME = Holder("node-a", 1, "ba9876543210", 7, "this boot")

    def test_it_is_taken_with_what_is_in_the_store(self, mount):
        mount.bucket.objects[f"run/{STATE}"] = b"{}"
        found = take_inventory(mount, self.ME)
        assert found.unproven == ("checkpoint-10",)
        assert found.lease.lease.epoch == 1
        assert take_inventory(mount).lease is None

    def test_two_requests_more_and_one_of_them_beside_the_others(self, mount):
        take_inventory(mount)
        before = len(mount.bucket.requests)
        take_inventory(mount, self.ME)
        key = f"run/{LEASE_NAME}"
        assert sorted(mount.bucket.requests[before:]) == sorted(
            [*mount.bucket.requests[:before], ("get", key), ("put", key)]
        )

    def test_one_that_may_be_a_dead_holders_is_not_waited_for_before_that_is_said(self, mount):
        made = lease_of()
        mount.bucket.objects[f"run/{LEASE_NAME}"] = made.to_bytes()
        found = take_inventory(mount, self.ME)
        assert found.lease.lease == made
        assert 0 < found.lease.seconds <= 30
        said = []
        waited = []

        def take(_, holder, *, wait=False):
            waited.append(wait)
            return replace(found, lease=None) if wait else found

        leases.look(mount, take, self.ME, said.append)
        assert waited == [False, True]
        [problem] = said
        assert "process 4711 on node-b" in problem.reason
        assert "takes over in" in problem.reason

    def test_the_epoch_of_a_lease_that_was_removed_is_that_of_the_manifests(self, mount):
        entry = FileEntry("model", 4, "AAAAAAAAAAA=", "write", "crc64nvme")
        where = "s3://bucket/run/checkpoint-10"
        manifest = Manifest(10, datetime.now(UTC), where, (entry,), epoch=6, run="s3://bucket/run")
        mount.bucket.objects[f"run/checkpoint-10/{MANIFEST_NAME}"] = manifest.to_bytes()
        assert take_inventory(mount, self.ME).lease.lease.epoch == 7

    def test_who_may_not_read_it_goes_on_without_and_says_so(self, mount):
        class Forbidding(FakeStore):
            def get(self, path, **how):
                if path == LEASE_NAME:
                    raise PermissionDeniedError("Not you.", hint="Ask.")
                return super().get(path, **how)

        mount.store = lambda *_, **__: Forbidding(mount.bucket, mount.spec.source)
        found = take_inventory(mount, self.ME)
        assert found.lease == Unheld("Not you.")
        said = []
        keeping = leases.keep(mount, found.lease, said.append)
        assert keeping.lost == ""
        assert "a second writer is not seen: Not you." in said[0].reason
        assert writer_epoch.read(mount.directory.path) is None

    def test_a_store_that_does_not_answer_is_no_missing_lease(self, mount):
        class Away(FakeStore):
            def get(self, path, **how):
                raise MountUnavailableError("It is away.", hint="Wait.")

        mount.store = lambda *_, **__: Away(mount.bucket, mount.spec.source)
        with pytest.raises(MountUnavailableError, match="away"):
            take_inventory(mount, self.ME)
