"""Who keeps the lease of a mount, and what becomes of the mount without it."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace

import pytest

from mountkit.checkpoints import lease_object
from mountkit.checkpoints.lease import Holder
from mountkit.checkpoints.lease_object import Held
from mountkit.errors import MountUnavailableError
from mountkit.events import LeaseLost, Problem
from mountkit.names import LEASE_NAME
from mountkit.spec import Source
from mountkit.state import writer_epoch
from mountkit.state.record import FAILED
from mountkit.supervision.lease_keeper import LeaseKeeper
from mountkit.timing import Deadline
from support.fakes import Bucket, FakeStore
from support.leases import lease_of
from unit.supervision.test_supervisor import LIMIT, PATIENT, Watch, wait_until

pytestmark = pytest.mark.fault(36)

ME = Holder("node-a", 1, "ba9876543210", 7, "this boot")
KEY = f"run/{LEASE_NAME}"


class Keeping:
    """A keeper that renews all the time."""

    def __init__(self, folder) -> None:
        self.bucket = Bucket()
        self.folder = folder
        self.store = FakeStore(self.bucket, Source("s3", "bucket", "run"))
        self.events: queue.SimpleQueue = queue.SimpleQueue()
        self.keeper: LeaseKeeper | None = None

    def begin(self, observer=None) -> LeaseKeeper:
        held = lease_object.take(
            self.store, ME, lease_object.look(self.store), lambda: 0, wait=False
        )
        assert isinstance(held, Held)
        times = {"first": 0.01, "every": 0.01, "retry": 0.01}
        opened = lambda: self.store  # noqa: E731
        self.keeper = LeaseKeeper(opened, held, self.folder, observer or self.events.put, **times)
        self.keeper.start()
        return self.keeper

    def told(self):
        return self.events.get(timeout=LIMIT)

    def seize(self) -> None:
        self.bucket.objects[KEY] = lease_of(*[lease_of().holder, 0, 1]).to_bytes()

    def renewals(self) -> int:
        return lease_object.look(self.store).lease.renewal


@pytest.fixture
def keeping(tmp_path):
    keeping = Keeping(tmp_path)
    yield keeping
    if keeping.keeper is not None:
        keeping.keeper.stop()


def test_it_renews_until_it_is_released(keeping):
    keeper = keeping.begin()
    assert writer_epoch.read(keeping.folder) == writer_epoch.WriterEpoch(1, "s3://bucket/run")
    wait_until(lambda: keeping.renewals() > 3)
    keeper.release()
    lease = lease_object.look(keeping.store).lease
    assert (lease.released, lease.epoch) == (True, 1)
    before = len(keeping.bucket.requests)
    keeper.release()
    assert len(keeping.bucket.requests) == before, "once more does nothing"
    assert keeping.events.empty()


def test_a_loss_ends_the_daemon_first_and_is_told(keeping):
    seen = []
    keeper = keeping.begin(observer=seen.append)
    keeper.guard(seen.append)
    deadline = Deadline()
    keeper.bound(deadline)
    keeping.seize()
    wait_until(lambda: len(seen) == 2)
    assert seen == [keeper.lost, LeaseLost(keeper.lost)]
    assert "process 4711 on node-b" in keeper.lost
    assert deadline.passed
    assert writer_epoch.read(keeping.folder).lost == keeper.lost
    before = keeping.bucket.objects[KEY]
    keeper.release()
    assert keeping.bucket.objects[KEY] == before


def test_one_that_was_lost_before_anybody_guarded_it_ends_what_comes_then(keeping):
    keeper = keeping.begin()
    keeping.seize()
    assert isinstance(keeping.told(), LeaseLost)
    seen, deadline = [], Deadline()
    keeper.guard(seen.append)
    keeper.bound(deadline)
    assert seen == [keeper.lost]
    assert deadline.passed


def test_a_store_that_is_away_is_told_once_and_asked_again(keeping):
    away = threading.Event()

    class Away(FakeStore):
        asked = 0

        def put_if(self, path, data, *, tag):
            self.asked += 1
            if away.is_set():
                raise MountUnavailableError("The store is away.", hint="Wait.")
            return super().put_if(path, data, tag=tag)

    keeping.store = Away(keeping.bucket, keeping.store.source)
    keeper = keeping.begin()
    wait_until(lambda: keeping.renewals() > 1)
    away.set()
    problem = keeping.told()
    assert isinstance(problem, Problem)
    assert "not renewed" in problem.reason
    assert "The store is away." in problem.reason
    away.clear()
    before = keeping.renewals()
    wait_until(lambda: keeping.renewals() > before + 1)
    assert keeping.events.empty()
    assert not keeper.lost
    away.set()
    assert isinstance(keeping.told(), Problem), "told again the next time"
    keeper.stop()
    keeper._ended.clear()
    asked = keeping.store.asked
    keeper.release()
    assert "not released" in keeping.told().reason
    assert keeping.store.asked == asked, "nobody waits for a store that is away"


def test_a_release_that_fails_is_told(keeping):
    keeper = keeping.begin()
    keeper.stop()
    keeper._ended.clear()

    class Away(FakeStore):
        def put_if(self, path, data, *, tag):
            raise MountUnavailableError("The store is away.", hint="Wait.")

    keeper._store = Away(keeping.bucket, keeping.store.source)
    keeper.release()
    assert "not released" in keeping.told().reason


def test_what_nobody_foresaw_is_told_and_tried_again(keeping):
    broken = [ValueError("odd")]

    class Odd(FakeStore):
        def put_if(self, path, data, *, tag):
            if broken and keeping.keeper is not None:
                raise broken.pop()
            return super().put_if(path, data, tag=tag)

    keeping.store = Odd(keeping.bucket, keeping.store.source)
    keeping.begin()
    assert "ValueError: odd" in keeping.told().reason
    wait_until(lambda: keeping.renewals() > 1)


@pytest.mark.parametrize("conditions", ["ignored", "refused"])
def test_a_store_that_enforces_nothing_makes_it_advisory_and_says_so_once(keeping, conditions):
    keeping.bucket.conditions = conditions
    keeping.begin()
    assert "advisory" in keeping.told().reason
    wait_until(lambda: keeping.renewals() > 3)
    assert keeping.events.empty()
    keeping.seize()
    assert isinstance(keeping.told(), LeaseLost)


def test_whoever_cannot_be_told_does_not_end_it(keeping):
    def fail(event) -> None:
        raise OSError(str(event))

    keeper = keeping.begin(observer=fail)
    keeping.seize()
    wait_until(lambda: keeper.lost)


class TestFence:
    """What the supervisor does then."""

    @pytest.fixture
    def watch(self, tmp_path):
        watch = Watch(tmp_path)
        yield watch
        watch.end()

    def test_its_daemon_ends_and_no_other_is_started(self, watch):
        supervisor = watch.begin(limits=PATIENT)
        daemon = watch.mounter.daemon
        supervisor.fence("somebody else has it")
        assert daemon.poll() is not None, "at once, by whoever fences"
        assert supervisor.finished.wait(LIMIT)
        wait_until(lambda: watch.written().state == FAILED)
        assert watch.written().reason == "the lease of the run is lost: somebody else has it"
        assert watch.mounter.daemon is daemon
        assert "start" not in watch.mounter.calls
        with pytest.raises(MountUnavailableError):
            watch.mounter.starts.check()
        assert watch.events.empty(), "who keeps the lease has said so"

    def test_an_end_that_the_watch_sees_first_is_no_loss(self, watch):
        daemon = watch.mounter.daemon
        fenced = threading.Event()

        class Fenced:
            """Ends by the fence, between the watch's question whether it is fenced and its look."""

            def ended(self) -> str:
                if not fenced.is_set():
                    fenced.set()
                    watch.supervisor.fence("somebody else has it")
                    daemon.stop()
                return daemon.ended()

            def __getattr__(self, name):
                return getattr(daemon, name)

        watch.mounter.daemon = Fenced()
        supervisor = watch.begin(limits=PATIENT)
        assert supervisor.finished.wait(LIMIT)
        wait_until(lambda: watch.written().state == FAILED)
        assert watch.mounter.calls == ["kill hung"]
        assert watch.events.empty()
        assert watch.written().lost == ()

    def test_also_in_the_middle_of_a_remount(self, watch):
        reached, go = threading.Event(), threading.Event()

        def starting() -> None:
            reached.set()
            assert go.wait(LIMIT)

        watch.mounter.starting = starting
        supervisor = watch.begin()
        watch.mounter.daemon.kill()
        assert reached.wait(LIMIT)
        supervisor.fence("somebody else has it")
        go.set()
        assert supervisor.finished.wait(LIMIT)
        wait_until(lambda: watch.written().state == FAILED)
        assert watch.mounter.daemon.poll() is not None

    def test_a_mount_that_cannot_be_taken_away_is_told_and_given_up_all_the_same(self, watch):
        def kill(*, hung: bool) -> None:
            raise MountUnavailableError("It stays.")

        supervisor = watch.begin(limits=PATIENT)
        watch.mounter.kill = kill
        supervisor.fence("somebody else has it")
        assert watch.told() == Problem("It stays.")
        wait_until(lambda: watch.written().state == FAILED)

    def test_once_it_is_over_nothing_more_happens(self, watch):
        supervisor = watch.begin()
        supervisor.stop()
        before = replace(watch.written())
        supervisor.fence("somebody else has it")
        assert watch.written() == before
