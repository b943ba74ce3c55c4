"""A writer that has lost its run proves nothing any more, and replaces nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mountkit.checkpoints import catalog
from mountkit.checkpoints.manifest import Manifest
from mountkit.config.timeouts import Limits
from mountkit.errors import NotDurableError, PermissionDeniedError
from mountkit.lifecycle.fenced import fenced_report
from mountkit.linux.process import ProcessIdentity
from mountkit.names import LEASE_NAME, is_own
from mountkit.proof.committer import Prover
from mountkit.proof.drain import drain
from mountkit.state import writer_epoch
from mountkit.state.writer_epoch import WriterEpoch
from support.fakes import FakeMount
from support.leases import ELSEWHERE, lease_of

pytestmark = pytest.mark.fault(36)

LIMITS = Limits(stall=0.05, drain=60.0, repair=0.05)
NAME = "checkpoint-3"
KEY = f"run/{NAME}/mountkit-manifest.json"
RUN = "s3://bucket/run"


@pytest.fixture
def mount(tmp_path) -> FakeMount:
    mount = FakeMount(tmp_path)
    mount.begin()
    writer_epoch.write(mount.directory.path, WriterEpoch(2, RUN))
    mount.save(f"{NAME}/model", b"123")
    mount.save(f"{NAME}/trainer_state.json", b'{"global_step": 3}')
    return mount


def prove(mount: FakeMount, **more) -> Manifest:
    files = ["model", "trainer_state.json"]
    return Prover(mount, "", LIMITS, lambda _: None).prove(NAME, 3, files, **more)


def test_the_manifest_bears_the_epoch_and_one_request_writes_it(mount):
    manifest = prove(mount)
    assert (manifest.epoch, manifest.run) == (2, RUN)
    assert Manifest.from_bytes(mount.bucket.objects[KEY]) == manifest
    assert mount.bucket.requests[-1] == ("put", KEY)
    assert mount.bucket.asked("put") == [KEY]
    assert mount.bucket.asked("get") == []


def test_without_a_lease_it_has_none_and_is_written_as_ever(mount):
    writer_epoch.write(mount.directory.path, None)
    mount.bucket.objects[KEY] = b"an older one"
    assert prove(mount).epoch is None
    assert b"epoch" not in mount.bucket.objects[KEY]


def test_once_the_lease_is_lost_nothing_is_proven_or_withdrawn(mount):
    writer_epoch.write(mount.directory.path, WriterEpoch(2, RUN, lost="node-b has it"))
    mount.bucket.objects[KEY] = b"somebody's"
    prover = Prover(mount, "", LIMITS, lambda _: None)
    for attempt in (
        lambda: prove(mount),
        lambda: prover.withdraw(NAME),
        lambda: prover.remove(NAME),
    ):
        with pytest.raises(NotDurableError, match="node-b has it") as caught:
            attempt()
        assert "mountkit latest" in caught.value.hint
        assert caught.value.unproven
    assert mount.bucket.objects[KEY] == b"somebody's"
    assert mount.bucket.asked("put") == []


@pytest.mark.parametrize("lost_at", ["first", "last"])
def test_also_where_it_is_lost_meanwhile(mount, lost_at):
    wanted = f"run/{NAME}/model" if lost_at == "first" else f"run/{NAME}/trainer_state.json"

    def lose(key: str) -> None:
        if key == wanted:
            writer_epoch.write(mount.directory.path, WriterEpoch(2, RUN, lost="node-b has it"))

    mount.bucket.before_attest = lose
    with pytest.raises(NotDurableError, match="node-b has it"):
        prove(mount)
    assert KEY not in mount.bucket.objects


def theirs(epoch: int | None) -> Manifest:
    manifest = Manifest.from_bytes(ORIGINAL[0])
    return replace(manifest, epoch=epoch, run=RUN if epoch else "")


ORIGINAL: list[bytes] = []


@pytest.fixture
def original(mount) -> None:
    prove(mount)
    ORIGINAL[:] = [mount.bucket.objects.pop(KEY)]


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.usefixtures("original")
def test_a_manifest_of_a_later_epoch_is_never_replaced(mount, before):
    later = theirs(3).to_bytes()
    mount.bucket.objects[KEY] = later
    how = {"before": theirs(1)} if before else {}
    with pytest.raises(NotDurableError, match="epoch 3, and this one has 2"):
        prove(mount, **how)
    assert mount.bucket.objects[KEY] == later


@pytest.mark.parametrize("epoch", [None, 1, 2])
@pytest.mark.usefixtures("original")
def test_one_of_an_earlier_epoch_or_of_our_own_is(mount, epoch):
    mount.bucket.objects[KEY] = theirs(epoch).to_bytes()
    assert prove(mount, before=theirs(epoch)).epoch == 2
    mount.bucket.objects[KEY] = b"damaged"
    assert prove(mount).epoch == 2
    assert Manifest.from_bytes(mount.bucket.objects[KEY]).epoch == 2


@pytest.mark.parametrize("conditions", ["ignored", "refused"])
def test_on_a_store_without_conditions_it_is_written_all_the_same(mount, conditions):
    mount.bucket.conditions = conditions
    assert prove(mount).epoch == 2
    assert Manifest.from_bytes(mount.bucket.objects[KEY]).epoch == 2


class TestWithoutASupervisor:
    """What proves on after the supervisor was killed asks the store whose the run is."""

    @pytest.fixture(autouse=True)
    def orphaned(self, mount):
        mount.begin()
        gone = replace(ProcessIdentity.mine(), started=1)
        mount.directory.write(replace(mount.record(), supervisor=gone))

    def test_it_goes_on_while_the_run_is_its_own(self, mount):
        for objects in ({}, {f"run/{LEASE_NAME}": lease_of(ELSEWHERE, 0, 1).to_bytes()}):
            mount.bucket.objects.update(objects)
            assert prove(mount).epoch == 2
            del mount.bucket.objects[KEY]

    def test_it_ends_where_it_is_not(self, mount):
        mount.bucket.objects[f"run/{LEASE_NAME}"] = lease_of(ELSEWHERE, 0, 1, 2).to_bytes()
        with pytest.raises(NotDurableError, match="process 4711 on node-b"):
            prove(mount)
        assert KEY not in mount.bucket.objects


def test_a_mount_that_lost_its_lease_names_what_is_not_proven(mount):
    mount.write("late.txt", b"12345", dirty=True)
    prove(mount)
    report = fenced_report(mount, "node-b has it")
    named = {problem.path: problem.reason for problem in report.unproven}
    assert named.keys() == {mount.path, "late.txt"}
    assert all("lease" in reason for reason in named.values())
    assert report.files == 2


def test_a_drain_asks_once_more_whose_the_run_is(mount):
    mount.begin()
    mount.save("final.bin")
    mount.bucket.objects[f"run/{LEASE_NAME}"] = lease_of(ELSEWHERE, 0, 1, 2).to_bytes()
    # Whoever renews the lease lives, and has not heard of it yet.
    assert mount.record().supervisor.alive()
    assert writer_epoch.read(mount.directory.path).lost == ""
    report = drain(mount, LIMITS, lambda _: None, ended_well=True)
    assert [each.path for each in report.unproven] == [mount.path]
    assert "process 4711 on node-b" in report.unproven[0].reason


def test_what_counts_is_not_removed_by_one_that_has_not_heard_of_it(mount):
    prove(mount)
    mount.bucket.objects[f"run/{LEASE_NAME}"] = lease_of(ELSEWHERE, 0, 1, 2).to_bytes()
    before = dict(mount.bucket.objects)
    prover = Prover(mount, "", LIMITS, lambda _: None)
    for work in (prover.withdraw, prover.remove):
        with pytest.raises(NotDurableError, match="process 4711 on node-b"):
            work(NAME)
    assert mount.bucket.objects == before


class TestTheLeaseIsNobodysData:
    def test_only_at_the_top(self):
        assert is_own(LEASE_NAME)
        assert not is_own(f"copy/{LEASE_NAME}")

    def test_the_drain_passes_it_over_and_not_a_copy_of_one(self, mount):
        mount.write(LEASE_NAME, b"written through the mount", dirty=True)
        mount.save(f"copy/{LEASE_NAME}", b"a file of the run")
        report = drain(mount, LIMITS, lambda _: None, ended_well=True)
        assert report.complete, report
        assert f"run/copy/{LEASE_NAME}" in mount.bucket.asked("stat")
        assert f"run/{LEASE_NAME}" not in mount.bucket.asked("stat")

    def test_a_checkpoint_at_the_top_of_the_mount_is_whole_beside_it(self, mount):
        from mountkit.checkpoints.verification import verify

        prove(mount)
        mount.bucket.objects[f"run/{NAME}/{LEASE_NAME}"] = lease_of().to_bytes()
        found = verify(mount.store(NAME), "")
        assert found.ok
        assert found.extra == ()


def test_who_may_not_read_the_lease_trusts_the_manifests(mount):
    prove(mount)

    class Forbidding(type(mount.store())):
        def get(self, path, **how):
            if path == LEASE_NAME:
                raise PermissionDeniedError("Not you.", hint="Ask.")
            return super().get(path, **how)

    store = Forbidding(mount.bucket, mount.spec.source)
    assert [found.proven for found in catalog.scan(store)] == [True]
    assert isinstance(catalog.survey(store).failed, PermissionDeniedError)
