"""The lease in the store: taken by one, renewed, lost and released."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from mountkit.checkpoints import catalog, lease_object
from mountkit.checkpoints.lease import TTL_SECONDS, Holder, Lease, superseded
from mountkit.checkpoints.lease_object import Awaited, Held, Lost, Unheld
from mountkit.checkpoints.manifest import FileEntry, Manifest
from mountkit.errors import ConfigurationError, MountUnavailableError, PermissionDeniedError
from mountkit.linux import machine
from mountkit.linux.process import ProcessIdentity
from mountkit.names import LEASE_NAME, MANIFEST_NAME
from mountkit.proof.fencing import write_manifest
from mountkit.spec import Source
from support.fakes import Bucket, FakeStore
from support.leases import ELSEWHERE, START, at, lease_of

pytestmark = pytest.mark.fault(36)

KEY = f"run/{LEASE_NAME}"
ME = Holder("node-a", 1, "ba9876543210", 7, "this boot")
OTHER = replace(ME, host="node-c", pid=3)


@dataclass
class Place:
    """A run's prefix in a store whose clock stands still until somebody waits."""

    bucket: Bucket = field(default_factory=Bucket)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.bucket.clock = lambda: START + timedelta(seconds=int(self.seconds))
        self.store = FakeStore(self.bucket, Source("s3", "bucket", "run"))

    def pause(self, seconds: float) -> None:
        self.seconds += seconds

    def put(self, lease: Lease | bytes) -> None:
        data = lease if isinstance(lease, bytes) else lease.to_bytes()
        self.bucket.objects[KEY], self.bucket.modified[KEY] = data, self.bucket.clock()

    def lease(self) -> Lease:
        return Lease.from_bytes(self.bucket.objects[KEY])

    def take(self, me: Holder = ME, *, wait: bool = True, floor: int = 0):
        seen = lease_object.look(self.store)
        return lease_object.take(
            self.store,
            me,
            seen,
            lambda: floor,
            wait=wait,
            pause=self.pause,
            clock=lambda: self.seconds,
        )


@pytest.fixture(params=["enforced", "ignored", "refused"])
def place(request) -> Place:
    return Place(Bucket(conditions=request.param))


@pytest.fixture
def enforced() -> Place:
    return Place()


class TestTaking:
    def test_where_there_is_none_it_is_made(self, place):
        held = place.take()
        assert place.lease() == held.lease
        assert (held.lease.epoch, held.lease.holder) == (1, ME)
        assert place.take(floor=5).lease.epoch == 2, "our own is taken at once"

    def test_one_more_request_and_no_more(self, enforced):
        seen = lease_object.look(enforced.store)
        before = len(enforced.bucket.requests)
        lease_object.take(enforced.store, ME, seen, lambda: 0, wait=True)
        assert enforced.bucket.requests[before:] == [("put", KEY)]

    def test_one_that_was_deleted_goes_on_where_it_was(self, place):
        assert place.take(floor=6).lease.epoch == 7

    def test_one_that_was_released_is_taken_at_once(self, place):
        held = place.take(OTHER)
        assert lease_object.release(place.store, held)
        assert place.take().lease.epoch == 2
        assert place.seconds == 0

    def test_that_of_a_dead_holder_when_it_has_run_out(self, place):
        place.put(lease_of())
        place.seconds = 12.0
        awaited = place.take(wait=False)
        assert isinstance(awaited, Awaited)
        assert awaited.seconds == pytest.approx(TTL_SECONDS - 12)
        held = place.take()
        assert (held.lease.epoch, held.lease.holder) == (2, ME)
        assert TTL_SECONDS <= place.seconds < TTL_SECONDS + 3

    @pytest.mark.parametrize("ended", [True, False])
    def test_where_the_store_tells_no_time_what_was_proven_before_counts(self, ended):
        """A dead holder may have proven more after its last renewal."""
        place = Place(Bucket(conditions="refused"))
        # By its own clock, which is not this machine's.
        place.put(lease_of(released=ended))
        place.seconds = 60.0 if ended else TTL_SECONDS + 60.0
        proven = place.bucket.clock()

        class Timeless(FakeStore):
            def read(self, path, *, limit=1 << 20):
                return replace(super().read(path, limit=limit), date=None)

        place.store = Timeless(place.bucket, place.store.source)
        place.seconds += 1.0
        held = place.take()
        assert place.lease() == held.lease
        assert superseded(held.lease, 1, proven) is None
        assert superseded(held.lease, 1, proven + timedelta(seconds=120)) == held.lease.epochs[-1]

    def test_a_live_one_refuses_with_who_and_since_when(self, place):
        place.put(lease_of(ELSEWHERE, 0, 60))
        lease = place.lease()

        def renewed(seconds: float) -> None:
            place.seconds += seconds
            nonlocal lease
            if place.seconds > 10:
                lease = lease.renewed()
                place.put(lease)

        place.pause = renewed
        with pytest.raises(MountUnavailableError) as caught:
            place.take()
        assert caught.value.exit_code == 69
        for word in ("process 4711 on node-b", "2026-01-01 00:01:00 UTC", "epoch 2"):
            assert word in caught.value.message
        assert "mountkit status" in caught.value.hint
        assert place.lease() == lease
        assert place.seconds < TTL_SECONDS

    def test_one_that_is_taken_over_by_a_third_meanwhile_refuses_too(self, place):
        place.put(lease_of())

        def taken(seconds: float) -> None:
            place.seconds += seconds
            if place.seconds > 25:
                place.put(lease_of(OTHER, 0, 25, renewal=int(place.seconds)))

        place.pause = taken
        with pytest.raises(MountUnavailableError, match="process 3 on node-c"):
            place.take()
        assert place.seconds <= 3 * TTL_SECONDS

    def test_on_this_machine_it_is_known_at_once(self, place):
        me = ProcessIdentity.mine()
        here = Holder("here", me.pid, "other mount", me.started, machine.place())
        place.put(lease_of(here))
        with pytest.raises(MountUnavailableError, match=f"process {me.pid} on here"):
            place.take(wait=False)
        # A process that got the same PID later is somebody else.
        place.put(lease_of(replace(here, started=me.started + 1)))
        assert place.take(wait=False).lease.epoch == 2
        assert place.seconds == 0

    def test_of_two_at_once_one_is_refused(self, enforced):
        seen = lease_object.look(enforced.store)
        lease_object.take(enforced.store, OTHER, seen, lambda: 0, wait=True)
        taken = lease_object.take(enforced.store, ME, seen, lambda: 0, wait=False)
        assert isinstance(taken, Awaited)
        assert enforced.lease().holder == OTHER

    def test_a_lost_answer_to_our_own_write_is_no_refusal(self, enforced):
        written = enforced.store.put_if

        class Lossy(FakeStore):
            def put_if(self, path, data, *, tag):
                written(path, data, tag=tag)
                return written(path, data, tag=tag)

        store = Lossy(enforced.bucket, enforced.store.source)
        held = lease_object.take(store, ME, lease_object.look(store), lambda: 0, wait=True)
        assert held.lease == enforced.lease()
        renewed = lease_object.renew(store, replace(held, enforced=True))
        assert isinstance(renewed, Held)
        assert renewed.lease == enforced.lease()

    def test_who_may_not_write_it_goes_on_without(self, place):
        class Forbidding(FakeStore):
            def put(self, path, data):
                raise PermissionDeniedError("The store does not allow it.", hint="Allow it.")

            def put_if(self, path, data, *, tag):
                self.put(path, data)

        store = Forbidding(place.bucket, place.store.source)
        taken = lease_object.take(store, ME, lease_object.look(store), lambda: 0, wait=True)
        assert taken == Unheld("The store does not allow it.")

    def test_a_newer_format_is_refused_and_stays(self, place):
        place.put(b'{"format": 2}')
        with pytest.raises(MountUnavailableError, match="format 2") as caught:
            place.take()
        assert "pip install -U mountkit" in caught.value.hint
        assert place.bucket.objects[KEY] == b'{"format": 2}'

    @pytest.mark.parametrize("data", [b"", b"notes", b"x" * 100_000, b'{"format": 1}'], ids=len)
    def test_what_is_no_lease_is_named_and_stays(self, place, data):
        place.put(data)
        with pytest.raises(ConfigurationError, match=LEASE_NAME) as caught:
            place.take()
        assert "aws s3 rm" in caught.value.hint
        assert place.bucket.objects[KEY] == data


class TestRenewing:
    def test_it_is_ours_as_long_as_we_renew_it(self, place):
        held = place.take()
        for number in range(1, 5):
            place.pause(10)
            held = lease_object.renew(place.store, held)
            assert held.lease == place.lease()
            assert held.lease.renewal >= number
            assert held.enforced is (place.bucket.conditions == "enforced")

    def test_then_it_is_one_request(self, enforced):
        held = lease_object.renew(enforced.store, enforced.take())
        before = len(enforced.bucket.requests)
        lease_object.renew(enforced.store, held)
        assert enforced.bucket.requests[before:] == [("put", KEY)]

    @pytest.mark.parametrize("renewals", [0, 1, 2])
    def test_once_somebody_else_has_it_it_is_lost(self, place, renewals):
        held = place.take(OTHER)
        for _ in range(renewals):
            held = lease_object.renew(place.store, held)
        place.pause(40)
        taken = place.take()
        lost = lease_object.renew(place.store, held)
        assert isinstance(lost, Lost)
        assert "process 1 on node-a" in lost.reason
        assert "epoch 2" in lost.reason
        assert place.lease() == taken.lease, "what the new holder wrote stays"
        assert not lease_object.release(place.store, held)
        assert place.lease() == taken.lease

    def test_also_where_the_new_holder_has_released_it(self, place):
        held = place.take(OTHER)
        place.pause(40)
        lease_object.release(place.store, place.take())
        assert isinstance(lease_object.renew(place.store, held), Lost)

    def test_one_that_ran_out_and_that_nobody_took_is_still_ours(self, place):
        held = place.take()
        place.pause(3600)
        assert isinstance(lease_object.renew(place.store, held), Held)

    @pytest.mark.parametrize("renewals", [0, 1])
    @pytest.mark.parametrize("data", [None, b"", b"notes", b"x" * 100_000], ids=repr)
    def test_one_that_a_program_removed_or_damaged_is_written_anew(self, place, renewals, data):
        held = place.take()
        for _ in range(renewals):
            held = lease_object.renew(place.store, held)
        del place.bucket.objects[KEY]
        if data is not None:
            place.put(data)
        for _ in range(3):
            held = lease_object.renew(place.store, held)
        assert place.lease() == held.lease
        assert held.lease.epoch == 1

    def test_a_newer_mountkit_has_taken_it(self, place):
        held = place.take()
        place.put(b'{"format": 7}')
        assert isinstance(lease_object.renew(place.store, held), Lost)

    def test_a_writer_whose_supervisor_is_gone_asks(self, place):
        held = place.take()
        assert lease_object.confirm(place.store, held.lease.epoch) is None
        place.pause(40)
        place.take(OTHER)
        error = lease_object.confirm(place.store, held.lease.epoch)
        assert "process 3 on node-c" in error.message


def manifest(step: int, epoch: int | None, run: str = "s3://bucket/run", below: str = ""):
    top = f"s3://bucket/run/{below}checkpoint-{step}"
    entry = FileEntry("model", 4, "AAAAAAAAAAA=", "write", "crc64nvme")
    return Manifest(step, at(0), top, (entry,), epoch=epoch, run=run if epoch else "")


class TestWhatCounts:
    def proven(self, place: Place, below: str = "") -> dict[int, bool]:
        store = place.store.at(place.store.source.child(below)) if below else place.store
        return {found.step: found.proven for found in catalog.scan(store)}

    def write(self, place: Place, made: Manifest, seconds: float, below: str = "") -> None:
        key = f"run/{below}checkpoint-{made.step}/{MANIFEST_NAME}"
        place.bucket.objects[key] = made.to_bytes()
        place.bucket.modified[key] = at(seconds)

    @pytest.mark.parametrize("below", ["", "out/", "out/deeper/"])
    def test_what_earlier_runs_proved_and_nothing_that_a_stale_writer_did(self, enforced, below):
        for step, epoch, seconds in ((1, 1, 50), (2, 1, 150), (3, 2, 150), (4, None, 1000)):
            self.write(enforced, manifest(step, epoch, below=below), seconds, below)
        assert self.proven(enforced, below.rstrip("/")) == dict.fromkeys((1, 2, 3, 4), True)
        enforced.put(lease_of(ELSEWHERE, 0, 100))
        expected = {1: True, 2: False, 3: True, 4: True}
        assert self.proven(enforced, below.rstrip("/")) == expected

    def test_latest_passes_it_over_and_says_why(self, enforced):
        self.write(enforced, manifest(2, 1), 150)
        enforced.put(lease_of(ELSEWHERE, 0, 100))
        said = []
        assert catalog.latest(enforced.store, on_skip=lambda *words: said.append(words)) is None
        [(name, why)] = said
        assert name == "checkpoint-2"
        assert "epoch 1" in why
        assert "epoch 2, since 2026-01-01 00:01:40 UTC" in why

    def test_a_copy_of_a_run_counts_as_it_is(self, enforced):
        elsewhere = replace(manifest(1, 1), source="s3://other/run/checkpoint-1")
        self.write(enforced, elsewhere, 1000)
        self.write(enforced, manifest(2, 1), 1000)
        enforced.put(replace(lease_of(ELSEWHERE, 0, 100), source="s3://other/run"))
        assert self.proven(enforced) == {1: True, 2: True}

    @pytest.mark.parametrize("run", ["", "s3://bucket/ru", "s3://bucket/run/sub", "../..", "x"])
    def test_a_manifest_that_names_another_run_is_no_concern_of_this_lease(self, enforced, run):
        self.write(enforced, replace(manifest(1, 1), run=run), 1000)
        enforced.put(lease_of(ELSEWHERE, 0, 100))
        assert self.proven(enforced) == {1: True}

    def test_beside_what_is_no_lease_every_manifest_counts(self, enforced):
        self.write(enforced, manifest(1, 1), 1000)
        for data in (b"notes", b'{"format": 9}', b"x" * 100_000):
            enforced.put(data)
            assert self.proven(enforced) == {1: True}


@dataclass
class Writer:
    """One that resumes from the newest checkpoint that counts, and writes the next ones.

    Each step of its life may come at any time after the one before: it cannot know how long it was
    stopped.
    """

    place: Place
    me: Holder
    written: list[tuple[int, int, float]]

    def live(self):
        place = self.place
        seen = lease_object.look(place.store)
        yield
        try:
            held = lease_object.take(
                place.store, self.me, seen, lambda: 0, wait=False, clock=lambda: place.seconds
            )
        except MountUnavailableError:
            return
        if not isinstance(held, Held):
            return
        step = max((step for step, proven in place.proven().items() if proven), default=0)
        renewed = place.seconds
        for _ in range(4):
            step += 1
            yield
            if place.seconds - renewed > 8:
                outcome = lease_object.renew(place.store, held)
                if isinstance(outcome, Lost):
                    return
                held, renewed = outcome, place.seconds
                yield
            made = manifest(step, held.lease.epoch)
            yield
            try:
                name = f"checkpoint-{step}/{MANIFEST_NAME}"
                write_manifest(place.store, name, made, replaces=False)
            except Exception:  # noqa: BLE001 - whatever stops it: it has written nothing
                return
            self.written.append((step, held.lease.epoch, int(place.seconds)))


class Run(Place):
    def proven(self) -> dict[int, bool]:
        return {found.step: found.proven for found in catalog.scan(self.store)}


@pytest.mark.parametrize("conditions", ["enforced", "ignored"])
def test_two_writers_on_one_prefix_never_prove_one_step_twice(conditions):
    seed = os.environ.get("MOUNTKIT_TEST_SEED") or str(random.SystemRandom().randrange(2**32))
    chance = random.Random(seed)
    epochs = 0
    stale = 0
    for number in range(200):
        place, written = Run(Bucket(conditions=conditions)), []
        lives, born = [], 0
        while born < 6 or lives:
            if born < 6 and (len(lives) < 2 or chance.random() < 0.1):
                holder = replace(ME, pid=born + 1, place=f"boot {born}")
                lives.append(Writer(place, holder, written).live())
                born += 1
            # Mostly a moment, sometimes so long that a lease runs out.
            place.pause(chance.choice([0.1, 0.5, 2.0, 9.0, 31.0]))
            life = chance.choice(lives)
            if next(life, "over") == "over":
                lives.remove(life)
            elif chance.random() < 0.05:
                # It is killed.
                lives.remove(life)
        lease = place.lease()
        counting: dict[int, set[int]] = {}
        for step, epoch, at_second in written:
            later = [each for each in lease.epochs if each.number > epoch]
            if all(at(at_second) < each.since for each in later):
                counting.setdefault(step, set()).add(epoch)
            else:
                stale += 1
        twice = {step: found for step, found in counting.items() if len(found) > 1}
        # Without conditions a stale writer may overwrite what counted; it never counts itself.
        assert not twice or conditions == "ignored", f"{number}, MOUNTKIT_TEST_SEED={seed}: {twice}"
        # What the bucket has in the end counts. Where the store holds to conditions, nothing that
        # counted was overwritten by what does not.
        proven = {step for step, counts in place.proven().items() if counts}
        assert proven <= counting.keys(), seed
        assert proven == counting.keys() or conditions == "ignored", seed
        epochs += lease.epoch
    assert epochs > 400, "hardly anybody took over"
    assert stale > 20, "no writer ever was stale"


class TestRefuseLive:
    """Somebody who only wants to know whether a run writes there."""

    def refuse(self, place):
        lease_object.refuse_live(place.store, pause=place.pause, clock=lambda: place.seconds)

    def test_nobody_has_it(self, place):
        self.refuse(place)
        place.put(lease_of(released=True))
        self.refuse(place)
        place.put(lease_of())
        place.seconds = TTL_SECONDS
        self.refuse(place)

    def test_one_that_was_renewed_a_moment_ago(self, place):
        place.put(lease_of())
        with pytest.raises(MountUnavailableError, match=f"process {ELSEWHERE.pid} on "):
            self.refuse(place)
        assert place.seconds == 0

    def test_on_this_machine_it_is_known_at_once(self, place):
        me = ProcessIdentity.mine()
        here = Holder("here", me.pid, "other mount", me.started, machine.place())
        place.put(lease_of(here))
        place.seconds = 10 * TTL_SECONDS
        place.put(lease_of(here, renewal=1))
        with pytest.raises(MountUnavailableError, match=f"process {me.pid} on here"):
            self.refuse(place)
        place.put(lease_of(replace(here, started=me.started + 1)))
        self.refuse(place)
        assert place.seconds == 10 * TTL_SECONDS

    @pytest.mark.parametrize("lives", [True, False])
    def test_where_the_store_tells_no_times_it_is_watched(self, place, lives):
        class Undated(FakeStore):
            def read(self, path, *, limit):
                return replace(super().read(path, limit=limit), modified=None, date=None)

        place.store = Undated(place.bucket, place.store.source)
        place.put(lease_of())

        def pause(seconds):
            place.seconds += seconds
            if lives and place.seconds > 10:
                place.put(lease_of(renewal=1))

        if lives:
            with pytest.raises(MountUnavailableError, match=f"process {ELSEWHERE.pid} on "):
                lease_object.refuse_live(place.store, pause=pause, clock=lambda: place.seconds)
            assert place.seconds < TTL_SECONDS
        else:
            lease_object.refuse_live(place.store, pause=pause, clock=lambda: place.seconds)
            assert place.seconds == TTL_SECONDS
