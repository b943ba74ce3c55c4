"""The end of a mount: everything that was written is in the store, or is named."""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from mountkit import timing
from mountkit.backends.base import LogGap, Pending, WrittenFile
from mountkit.checkpoints import catalog
from mountkit.checkpoints.manifest import Manifest
from mountkit.config import timeouts
from mountkit.config.timeouts import Limits
from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    NotDurableError,
    PermissionDeniedError,
    Unproven,
    VerificationError,
)
from mountkit.events import Problem
from mountkit.names import MANIFEST_NAME
from mountkit.proof import committer, upload_waiter
from mountkit.proof import drain as drains
from mountkit.proof.committer import Prover
from mountkit.proof.drain import _group, drain
from mountkit.proof.report import DrainReport, checked_again
from mountkit.state import upload_tag
from mountkit.store.base import ObjectChangedError, ObjectMissingError
from mountkit.store.s3.errors import translate
from mountkit.timing import Deadline
from support.fakes import FakeMount, FakeStore, astray

LIMITS = Limits(stall=0.05, drain=60.0, repair=0.05)
MANIFEST = "run/checkpoint-3/mountkit-manifest.json"


@pytest.fixture
def mount(tmp_path) -> FakeMount:
    return FakeMount(tmp_path)


@pytest.fixture
def events() -> list:
    return []


def finished(mount, top="checkpoint-3", step=3) -> None:
    mount.save(f"{top}/model", b"123")
    mount.save(f"{top}/trainer_state.json", json.dumps({"global_step": step}).encode())


def damaged(path: str) -> MountkitError:
    """What becomes of a store's word that an object did not arrive as it was sent."""
    answer = {"Error": {"Code": "BadDigest"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    error = ClientError(answer, "PutObject")
    return translate(error, doing="write", where=f"s3://bucket/run/{path}")


def unproven(report: DrainReport) -> list[str]:
    return sorted(problem.path for problem in report.unproven)


class TestLooseFiles:
    def test_nothing_was_written(self, mount, events):
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report == DrainReport(0, (), ())
        assert report.complete
        assert sum(problem.size for problem in report.unproven) == 0

    @pytest.mark.fault(7, 22)
    @pytest.mark.parametrize("noted", [True, False])
    @pytest.mark.parametrize("ended_well", [True, False])
    def test_what_is_left_of_a_checkpoint_is_no_checkpoint(self, mount, events, noted, ended_well):
        mount.begin()
        finished(mount)
        if noted:
            # Before the daemon was started: it may look well since.
            mount.directory.bypassed.note_partially_deleted(["checkpoint-3"])
        else:
            mount.daemon.less = ("checkpoint-3",)
        report = drain(mount, LIMITS, events.append, ended_well=ended_well)
        assert (report.checkpoints, report.complete) == ((), True)
        assert any("not a finished" in e.reason for e in events if isinstance(e, Problem))
        mount.daemon.less = ()
        finished(mount)
        report = drain(mount, LIMITS, events.append, ended_well=False)
        assert report.checkpoints == ("checkpoint-3",)

    @pytest.mark.fault(3, 11)
    @pytest.mark.parametrize("ended_well", [True, False])
    def test_nor_is_one_of_which_an_earlier_run_lost_bytes(self, mount, events, ended_well):
        mount.begin()
        finished(mount)
        mount.daemon.damaged = ("checkpoint-3/model", "checkpoint-30/model")
        report = drain(mount, LIMITS, events.append, ended_well=ended_well)
        assert (report.checkpoints, report.complete) == ((), True)
        assert any("not a finished" in e.reason for e in events if isinstance(e, Problem))
        mount.daemon.damaged = ("checkpoint-30/model",)
        finished(mount)
        report = drain(mount, LIMITS, events.append, ended_well=ended_well)
        assert report.checkpoints == ("checkpoint-3",)

    @pytest.mark.fault(9)
    @pytest.mark.parametrize("still", [True, False])
    def test_what_somebody_mounted_over_it_is_no_silent_loss(self, mount, events, still):
        mount.save("log")
        if still:
            mount.stranger = "theirs (tmpfs) is mounted over it"
        else:
            mount.begin(covered="theirs (tmpfs) is mounted over it")
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == [mount.path]
        assert report.unproven[0].reason.startswith("theirs (tmpfs) is mounted over it; ")

    @pytest.mark.fault(34)
    @pytest.mark.parametrize("name", [".mountkit-doctor-1/unlink", "out/.mountkit-probe-2"])
    def test_what_mountkit_tried_is_nobodys_loss(self, mount, events, name):
        mount.write(name, dirty=True)
        mount.save("model.bin")
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert (report.files, report.unproven) == (1, ())
        assert set(report.seen) == {"model.bin"}

    def test_every_file_is_attested(self, mount, events):
        mount.save("training.log")
        mount.save("runs/deep/events")
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert (report.files, report.checkpoints, report.unproven) == (2, (), ())
        assert set(report.seen) == {"runs/deep/events", "training.log"}
        assert sorted(mount.bucket.asked("stat")) == ["run/runs/deep/events", "run/training.log"]
        assert mount.bucket.asked("put") == []

    @pytest.mark.fault(4)
    def test_one_that_is_not_there_is_named(self, mount, events):
        mount.save("there")
        mount.write("away", b"12345")
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert not report.complete
        assert unproven(report) == ["away"]
        assert sum(problem.size for problem in report.unproven) == 5
        assert report.files == 1


class TestCheckpoints:
    def test_a_finished_one_gets_its_manifest(self, mount, events):
        finished(mount)
        report = drain(mount, LIMITS, events.append, ended_well=False)
        assert report.complete
        assert report.checkpoints == ("checkpoint-3",)
        manifest = Manifest.from_bytes(mount.bucket.objects[MANIFEST])
        assert [entry.path for entry in manifest.files] == ["model", "trainer_state.json"]

    def test_in_any_directory(self, mount, events):
        finished(mount, "a/b/checkpoint-3")
        finished(mount, "checkpoint-3")
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.checkpoints == ("a/b/checkpoint-3", "checkpoint-3")
        assert "run/a/b/checkpoint-3/mountkit-manifest.json" in mount.bucket.objects

    @pytest.mark.fault(11)
    @pytest.mark.parametrize(
        "content",
        [None, b"", b"{", b"[3]", b'{"global_step": 2}', b'{"global_step": "3"}', b"\xff"],
    )
    def test_a_torn_one_gets_none_but_its_files_are_attested(self, mount, events, content):
        mount.save("checkpoint-3/model")
        if content is not None:
            mount.save("checkpoint-3/trainer_state.json", content)
        report = drain(mount, LIMITS, events.append, ended_well=False)
        assert report.checkpoints == ()
        assert report.complete
        assert report.files == (1 if content is None else 2)
        assert MANIFEST not in mount.bucket.objects
        assert any("checkpoint-3" in e.reason for e in events if isinstance(e, Problem))

    @pytest.mark.fault(7, 22)
    def test_one_without_its_state_is_none_however_well_its_writer_ended(self, mount, events):
        # "python train.py | tee log" ends well whatever became of Python.
        mount.begin()
        mount.save("checkpoint-3/weights")
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.complete
        assert report.checkpoints == ()

    @pytest.mark.fault(25)
    @pytest.mark.parametrize("where", ["here", "in the store"])
    def test_one_that_trainer_marks_as_incomplete_is_none(self, mount, events, where):
        finished(mount, "checkpoint-3", 3)
        mark = "checkpoint-3/checkpoint-is-incomplete.txt"
        if where == "here":
            mount.save(mark)
        else:
            mount.bucket.objects[f"run/{mark}"] = b"in progress"
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.complete
        assert report.checkpoints == ()
        assert MANIFEST not in mount.bucket.objects

    def test_with_a_writer_that_ended_well_the_state_need_not_be_the_last(self, mount, events):
        mount.begin()
        finished(mount, "checkpoint-3", 3)
        path = "checkpoint-3/later"
        mount.save(path)
        later = replace(mount.daemon.listed[path], modified=time.time() + 600)
        mount.daemon.listed[path] = later
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.checkpoints == ("checkpoint-3",)

    @pytest.mark.fault(7, 11)
    @pytest.mark.parametrize(
        "name", ["model-00002-of-00002.safetensors", "optimizer.pt", "scheduler.pt"]
    )
    def test_but_not_older_than_what_trainer_writes_before_it(self, mount, events, name):
        # A second training reached the same step, and its save broke off.
        mount.begin()
        finished(mount, "checkpoint-3", 3)
        path = f"checkpoint-3/{name}"
        mount.save(path)
        later = replace(mount.daemon.listed[path], modified=time.time() + 600)
        mount.daemon.listed[path] = later
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.checkpoints == ()
        assert MANIFEST not in mount.bucket.objects

    @pytest.mark.fault(7, 11)
    def test_nor_than_the_beginning_of_its_last_save(self, mount, events):
        mount.begin()
        finished(mount, "checkpoint-3", 3)
        mount.directory.bypassed.begin("checkpoint-3")
        mount.save("checkpoint-3/model")
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.checkpoints == ()
        assert any("not a finished" in e.reason for e in events if isinstance(e, Problem))

    @pytest.mark.fault(11)
    def test_that_says_nothing_of_what_an_earlier_run_left(self, mount, events):
        mount.save("checkpoint-3/weights")
        finished(mount, "checkpoint-4", 4)
        mount.begin(began=time.time() + 60, adopted=tuple(mount.daemon.listed))
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.checkpoints == ("checkpoint-4",)
        assert report.complete

    @pytest.mark.fault(11)
    def test_a_state_older_than_the_rest_is_of_an_earlier_save(self, mount, events):
        finished(mount)
        old = mount.daemon.listed["checkpoint-3/trainer_state.json"]
        mount.daemon.listed[old.path] = replace(old, modified=old.modified - 60)
        report = drain(mount, LIMITS, events.append, ended_well=False)
        assert report.checkpoints == ()

    def test_one_with_a_missing_file_is_named_and_gets_none(self, mount, events):
        finished(mount)
        mount.write("checkpoint-3/optimizer", b"12")
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == ["checkpoint-3/optimizer"]
        assert report.checkpoints == ()
        assert MANIFEST not in mount.bucket.objects

    def test_a_file_that_left_the_cache_is_compared_with_nothing_and_so_not_proven(
        self, mount, events
    ):
        finished(mount)
        mount.save("checkpoint-3/early", b"1")
        mount.evict("checkpoint-3/early")
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == ["checkpoint-3/early"]
        assert MANIFEST not in mount.bucket.objects

    def test_what_an_earlier_run_left_and_had_uploaded_is_none_of_ours(self, mount, events):
        finished(mount)
        mount.save("training.log")
        mount.bucket.objects.clear()
        mount.begin(began=time.time() + 60)
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.complete
        assert report.files == 0

    def test_a_proven_one_keeps_its_manifest_when_a_second_proof_fails(self, mount, events):
        mount.begin()
        finished(mount)
        drain(mount, LIMITS, events.append, ended_well=True)
        before = mount.bucket.objects[MANIFEST]
        mount.write("checkpoint-3/eval.json", dirty=True)
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == ["checkpoint-3/eval.json"]
        assert mount.bucket.objects[MANIFEST] == before

    def test_a_loss_of_the_mount_after_the_proof_does_not_taint_a_later_file(self, mount, events):
        mount.begin()
        finished(mount)
        drain(mount, LIMITS, events.append, ended_well=True)
        mount.begin(lost=(time.time(),))
        mount.save("checkpoint-3/eval.json")
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.complete
        assert report.checkpoints == ("checkpoint-3",)


@pytest.mark.fault(48)
@pytest.mark.fault(15)
class TestAGapInTheLog:
    def test_a_checkpoint_of_that_time_is_not_proven_and_the_log_is_named(self, mount, events):
        mount.begin()
        finished(mount)
        now = time.time()
        mount.daemon.gaps = (LogGap(now - 60, math.inf),)
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert [each.path for each in report.unproven] == [str(mount.directory.log)]
        assert report.checkpoints == ()

    def test_one_of_another_time_is(self, mount, events):
        mount.begin()
        finished(mount)
        now = time.time()
        mount.daemon.gaps = (LogGap(now - 60, now - 50), LogGap(now + 50, math.inf))
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.checkpoints == ("checkpoint-3",)

    def test_it_is_named_by_one_run(self, mount, events):
        now = time.time()
        mount.begin(now - 10, named=now - 20)
        mount.daemon.gaps = (LogGap(now - 60, now - 50),)
        assert drain(mount, LIMITS, events.append, ended_well=True).complete
        # It goes on in this one.
        mount.daemon.gaps = (LogGap(now - 60, math.inf),)
        assert not drain(mount, LIMITS, events.append, ended_well=True).complete

    def test_the_callback_proves_none_of_that_time(self, mount, events):
        mount.begin()
        finished(mount)
        mount.daemon.gaps = (LogGap(time.time() - 60, math.inf),)
        prover = Prover(mount, "", LIMITS, events.append)
        with pytest.raises(NotDurableError, match="lacks lines"):
            prover.prove("checkpoint-3", 3, ["model", "trainer_state.json"])


class TestLineage:
    """Which checkpoint the drain makes the latest, where more than one training saved."""

    def latest(self, mount) -> int | None:
        found = catalog.latest(mount.store())
        return found.step if found else None

    def age(self, mount, moment: float) -> None:
        listed = mount.daemon.listed
        listed.update({path: replace(file, modified=moment) for path, file in listed.items()})

    def drain(self, mount, events) -> None:
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.complete, report.unproven

    @pytest.mark.parametrize("adopted", [True, False])
    def test_what_an_earlier_run_left_waiting_is_older_than_what_this_one_saved(
        self, mount, events, adopted
    ):
        finished(mount, "checkpoint-8", 8)
        if adopted:
            self.age(mount, time.time() - 1000)
        left = tuple(mount.daemon.listed)
        mount.begin(time.time() - 10, adopted=left)
        if adopted:
            finished(mount)
        self.drain(mount, events)
        assert self.latest(mount) == (3 if adopted else 8)

    def test_a_clock_that_is_behind_that_of_an_earlier_run(self, mount, events):
        mount.begin(time.time() - 10)
        finished(mount, "checkpoint-2", 2)
        self.drain(mount, events)
        # Another machine, an hour behind.
        self.age(mount, time.time() - 9000)
        mount.daemon.listed.clear()
        mount.begin(time.time() - 3600)
        finished(mount)
        self.age(mount, time.time() - 3590)
        self.drain(mount, events)
        assert self.latest(mount) == 3

    def test_one_that_is_proven_again_keeps_its_place(self, mount, events):
        mount.begin(time.time() - 10)
        finished(mount)
        finished(mount, "checkpoint-4", 4)
        self.drain(mount, events)
        before = catalog.scan(mount.store())[0].saved
        mount.save("checkpoint-3/note.txt")
        self.drain(mount, events)
        assert b"note.txt" in mount.bucket.objects[MANIFEST]
        assert catalog.scan(mount.store())[0].saved == before
        assert self.latest(mount) == 4


class TestLateWriters:
    def test_what_is_written_during_the_drain_has_its_turn(self, mount, events):
        mount.save("a")
        mount.bucket.before_attest = lambda key: (
            mount.save("b") if "b" not in mount.daemon.listed else None
        )
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.complete
        assert set(report.seen) == {"a", "b"}

    def test_one_that_never_ends_is_named(self, mount, events):
        mount.save("a")
        count = iter(range(1000))
        mount.bucket.before_attest = lambda _: mount.save(f"n{next(count)}")
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert not report.complete
        assert all("still writing" in problem.reason for problem in report.unproven)

    @pytest.mark.parametrize("change", ["new", "again", "dirty"])
    def test_what_is_written_after_the_drain_is_named(self, mount, events, change):
        mount.save("a")
        report = drain(mount, LIMITS, events.append, ended_well=True)
        if change == "new":
            mount.save("b")
        elif change == "again":
            mount.save("a", b"12")
        else:
            mount.daemon.listed["a"] = replace(mount.daemon.listed["a"], dirty=True)
        again = checked_again(mount, report, mount.record())
        assert unproven(again) == ["b" if change == "new" else "a"]
        mount.daemon.listed.clear()
        assert checked_again(mount, report, mount.record()).complete

    @pytest.mark.fault(15)
    def test_so_is_a_log_whose_disk_was_full_by_then(self, mount, events):
        mount.begin()
        report = drain(mount, LIMITS, events.append, ended_well=True)
        mount.daemon.gaps = (LogGap(time.time(), math.inf),)
        again = checked_again(mount, report, mount.record())
        assert unproven(again) == [str(mount.directory.log)]


class TestCovered:
    @pytest.fixture
    def proven(self, mount, events) -> FakeMount:
        mount.begin()
        finished(mount)
        drain(mount, LIMITS, events.append, ended_well=True)
        mount.bucket.requests.clear()
        return mount

    def again(self, mount, events) -> DrainReport:
        return drain(mount, LIMITS, events.append, ended_well=True)

    def test_what_a_manifest_speaks_for_is_not_asked_for_again(self, proven, events):
        report = self.again(proven, events)
        assert (report.files, report.checkpoints, report.complete) == (2, (), True)
        assert "run/checkpoint-3/model" not in proven.bucket.asked("stat")
        assert proven.bucket.asked("put") == []

    @pytest.mark.parametrize("change", ["later", "bigger", "dirty", "more"])
    def test_what_changed_since_is_proven_again(self, proven, events, change):
        listed = proven.daemon.listed
        file = listed["checkpoint-3/model"]
        if change == "later":
            hour = datetime.now(UTC) + timedelta(hours=1)
            for path in tuple(listed):
                listed[path] = replace(listed[path], modified=hour.timestamp())
        elif change == "bigger":
            proven.save(file.path, b"1234")
            listed[file.path] = replace(listed[file.path], modified=file.modified)
        elif change == "dirty":
            proven.write(file.path, b"1234", dirty=True)
        else:
            proven.save("checkpoint-3/more")
        report = self.again(proven, events)
        if change == "dirty":
            assert unproven(report) == [file.path]
        else:
            assert report.checkpoints == ("checkpoint-3",)

    @pytest.mark.parametrize("data", [b"", b"{}", b'{"format": 2}'])
    def test_a_manifest_that_cannot_be_read_speaks_for_nothing(self, proven, events, data):
        proven.bucket.objects[MANIFEST] = data
        assert self.again(proven, events).checkpoints == ("checkpoint-3",)
        assert Manifest.from_bytes(proven.bucket.objects[MANIFEST]).step == 3


class TestUnwitnessed:
    def test_what_a_deletion_and_an_upload_left_is_no_checkpoint(self, mount, events):
        mount.bucket.objects["run/checkpoint-7/model"] = b"1"
        assert drain(mount, LIMITS, events.append, ended_well=True).complete

    def test_a_checkpoint_whose_bytes_are_gone_is_named(self, mount, events):
        mount.bucket.objects["run/checkpoint-7/trainer_state.json"] = b"1"
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == ["checkpoint-7"]

    @pytest.mark.fault(15, 36)
    @pytest.mark.parametrize(
        "whose", ["another's", "ours", "an earlier run's", "before", "nobody's"]
    )
    def test_not_one_that_another_machine_saves_meanwhile(self, mount, events, whose):
        # It mounts the same place at the same path: its mount has the same id.
        cache = Path(mount.spec.cache_dir)
        upload_tag.begin(mount.directory, cache)
        mount.begin()
        mine = upload_tag.value(mount.directory.path, mount.spec.id)
        marks = {
            "another's": f"{'0' * 32}-0123456789ab",
            "ours": mine,
            "an earlier run's": f"{mine.partition('-')[0]}-0123456789ab",
            "before": f"{mount.spec.id}-0123456789ab",
        }
        state = "run/checkpoint-7/trainer_state.json"
        mount.bucket.objects[state] = b"1"
        mount.bucket.metadata[state] = {"mountkit": marks[whose]} if whose in marks else {}
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == ([] if whose == "another's" else ["checkpoint-7"])

    def test_not_if_it_was_there_before(self, mount, events):
        mount.bucket.objects["run/checkpoint-7/model"] = b"1"
        mount.begin(unproven_before=("checkpoint-7",))
        assert drain(mount, LIMITS, events.append, ended_well=True).complete

    def test_nor_if_it_is_proven(self, mount, events):
        finished(mount)
        drain(mount, LIMITS, events.append, ended_well=True)
        mount.daemon.listed.clear()
        assert drain(mount, LIMITS, events.append, ended_well=True).complete

    @pytest.mark.fault(15, 20)
    @pytest.mark.parametrize("ours", [True, False])
    def test_an_older_manifest_says_nothing_of_what_was_written_over_it(self, mount, events, ours):
        now = datetime.now(UTC)
        mount.begin(store_began=(now - timedelta(hours=1 if ours else -1)).timestamp())
        for name in ("mountkit-manifest.json", "model", "trainer_state.json"):
            mount.bucket.objects[f"run/checkpoint-7/{name}"] = b"1"
            mount.bucket.metadata[f"run/checkpoint-7/{name}"] = {"mountkit": mount.spec.id}
            mount.bucket.modified[f"run/checkpoint-7/{name}"] = now
        assert drain(mount, LIMITS, events.append, ended_well=True).complete
        mount.bucket.modified["run/checkpoint-7/mountkit-manifest.json"] -= timedelta(minutes=1)
        report = drain(mount, LIMITS, events.append, ended_well=True)
        # What another run has left there is not this one's concern.
        assert unproven(report) == (["checkpoint-7"] if ours else [])

    @pytest.mark.fault(15)
    @pytest.mark.parametrize("path", ["model", "runs/deep/events", "checkpoint-7/model"])
    def test_a_file_that_rclone_uploaded_and_forgot_is_named(self, mount, events, path):
        mount.bucket.objects[f"run/{path}"] = b"123"
        mount.bucket.metadata[f"run/{path}"] = {"mountkit": mount.spec.id}
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == [path]
        assert sum(problem.size for problem in report.unproven) == 3
        assert "left the local cache" in report.unproven[0].reason

    @pytest.mark.fault(10, 15)
    def test_what_the_daemon_would_upload_and_the_cache_has_lost_is_named(self, mount, events):
        # It is dropped as soon as it is pushed.
        # Its upload is another push, after which the queue is empty.
        mount.save("other")
        mount.daemon.script = [Pending(waiting=("final/model",)), Pending()]
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == ["final/model"]
        assert "local cache does not have it" in report.unproven[0].reason

    def test_not_what_was_removed_before_its_daemon_heard_of_the_close(self, mount, events):
        mount.lacks = frozenset(["lock"])
        mount.daemon.script = [Pending(waiting=("lock",)), Pending()]
        assert drain(mount, LIMITS, events.append, ended_well=True).complete

    def test_not_what_was_written_meanwhile(self, mount, events, monkeypatch):
        def flush_uploads():
            if mount.daemon.listed:
                return Pending()
            mount.save("model")
            return Pending(waiting=("model",))

        monkeypatch.setattr(mount.daemon, "flush_uploads", flush_uploads)
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.complete
        assert report.files == 1

    @pytest.mark.fault(10)
    def test_a_daemon_that_is_gone_has_no_queue(self, mount, events):
        mount.daemon.script = [MountUnavailableError("nobody listens")]
        assert drain(mount, LIMITS, events.append, ended_well=True).complete

    @pytest.mark.parametrize(
        "noted",
        [{}, {"mtime": "1234.5"}, {"mtime": "1234.5", "mountkit": "0123456789ab"}],
        ids=["nothing", "by any rclone", "by another mount"],
    )
    @pytest.mark.parametrize(
        "path", ["results.json", "other/data.bin", "other/checkpoint-7/trainer_state.json"]
    )
    def test_not_what_another_program_put_there(self, mount, events, path, noted):
        mount.bucket.objects[f"run/{path}"] = b"123"
        mount.bucket.metadata[f"run/{path}"] = noted
        assert drain(mount, LIMITS, events.append, ended_well=True).complete

    def test_what_another_program_saved_over_is_named_by_what_is_still_ours(self, mount, events):
        for name in ("trainer_state.json", "model"):
            mount.bucket.objects[f"run/out/checkpoint-7/{name}"] = b"1"
        mount.bucket.metadata["run/out/checkpoint-7/model"] = {"mountkit": mount.spec.id}
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == ["out/checkpoint-7/model"]

    @pytest.mark.parametrize("top", ["checkpoint-7", "out/checkpoint-7"])
    def test_a_backend_without_a_cache_forgets_nothing(self, mount, events, top):
        mount.spec = replace(mount.spec, backend="mountpoint")
        mount.bucket.objects[f"run/{top}/trainer_state.json"] = b"1"
        assert drain(mount, LIMITS, events.append, ended_well=True).complete

    @pytest.mark.parametrize("ahead", [-0.1, 0, 0.1], ids=["before", "with", "after"])
    def test_only_what_is_younger_than_the_mount_by_the_store_s_clock(self, mount, events, ahead):
        # That clock is days ahead of ours.
        made = datetime.now(UTC) + timedelta(days=3)
        mount.begin(store_began=made.timestamp())
        mount.bucket.objects["run/model"] = b"123"
        mount.bucket.metadata["run/model"] = {"mountkit": mount.spec.id}
        mount.bucket.modified["run/model"] = made + timedelta(seconds=ahead)
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert report.complete == (ahead <= 0)

    def test_the_state_of_an_earlier_training_is_no_checkpoint(self, mount, events):
        # Trainer.save_state writes it beside the checkpoints.
        mount.bucket.objects["run/trainer_state.json"] = b"1"
        mount.bucket.objects["run/eval/trainer_state.json"] = b"1"
        assert drain(mount, LIMITS, events.append, ended_well=True).complete

    @pytest.mark.fault(15)
    @pytest.mark.parametrize("top", ["checkpoint-7", "out/checkpoint-7"])
    def test_a_checkpoint_is_named_once(self, mount, events, top):
        for name in ("trainer_state.json", "model"):
            mount.bucket.objects[f"run/{top}/{name}"] = b"1"
            mount.bucket.metadata[f"run/{top}/{name}"] = {"mountkit": mount.spec.id}
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == [top]

    @pytest.mark.fault(7)
    def test_a_file_that_reached_the_local_disk_instead_is_named(self, mount, events):
        mount.directory.bypassed.add(astray("checkpoint-9/model", "log"))
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == ["checkpoint-9/model", "log"]
        assert mount.spec.cache_dir in report.unproven[0].reason

    @pytest.mark.fault(42)
    def test_a_checkpoint_that_was_proven_before_the_rest_of_it_missed_the_mount_is_none(
        self, mount, events
    ):
        finished(mount)
        assert drain(mount, LIMITS, events.append, ended_well=True).complete
        manifest = f"run/checkpoint-3/{MANIFEST_NAME}"
        assert manifest in mount.bucket.objects
        mount.directory.bypassed.add(astray("checkpoint-3/optimizer.pt"))
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == ["checkpoint-3/optimizer.pt"]
        assert manifest not in mount.bucket.objects

    @pytest.mark.fault(42)
    def test_one_of_an_earlier_run_that_was_not_written_again_stays(self, mount, events):
        finished(mount)
        assert drain(mount, LIMITS, events.append, ended_well=True).complete
        mount.begin(began=time.time() + 60)
        mount.directory.bypassed.add(astray("checkpoint-3/optimizer.pt"))
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == ["checkpoint-3/optimizer.pt"]
        assert f"run/checkpoint-3/{MANIFEST_NAME}" in mount.bucket.objects


def trainer_state(step: int) -> bytes:
    return json.dumps({"global_step": step}).encode()


class TestSeveral:
    def test_they_are_proven_together_and_told_of_in_their_order(self, mount, events):
        begun = threading.Barrier(2)
        first = {f"run/checkpoint-{step}/model" for step in (10, 11)}

        def wait(key: str) -> None:
            # The first of either waits for the other: one after the other they never would end.
            if key in first:
                first.discard(key)
                begun.wait(30)

        for step in range(10, 16):
            mount.save(f"checkpoint-{step}/model", b"1")
            mount.save(f"checkpoint-{step}/trainer_state.json", trainer_state(step))
        mount.bucket.before_attest = wait
        del mount.bucket.objects["run/checkpoint-12/model"]
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == ["checkpoint-12/model"]
        assert report.checkpoints == tuple(f"checkpoint-{step}" for step in (10, 11, 13, 14, 15))


class TestStoreTrouble:
    def test_a_store_that_stays_away_leaves_every_file_named(self, mount, events):
        finished(mount)
        mount.save("log")

        def fail(_):
            raise MountUnavailableError("The store gave no answer.")

        mount.bucket.before_attest = fail
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert not report.complete
        assert set(unproven(report)) >= {"checkpoint-3/model", "log"}
        assert "The store gave no answer." in {problem.reason for problem in report.unproven}

    def test_what_the_store_said_is_kept_for_those_who_ask(self, mount, events, monkeypatch):
        finished(mount)

        def fail(*_):
            raise MountUnavailableError("The store cannot be listed.")

        monkeypatch.setattr(FakeStore, "list", fail)
        drain(mount, LIMITS, events.append, ended_well=True)
        found = mount.directory.proof_stats.read()
        assert found.complaint.message == "The store cannot be listed."
        assert (found.proofs, found.failures) == (0, 0), "nobody tried to prove it"

    def test_a_manifest_that_the_store_does_not_keep_is_named(self, mount, events, monkeypatch):
        finished(mount)

        def damage(_, path, __):
            raise damaged(path)

        monkeypatch.setattr(FakeStore, "put", damage)
        monkeypatch.setattr(committer, "RETRY_SECONDS", 0.0)
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert MANIFEST not in mount.bucket.objects
        assert not report.complete
        assert unproven(report) == ["checkpoint-3"]
        assert "damaged on its way" in report.unproven[0].reason

    def test_one_that_is_damaged_once_is_written_again(self, mount, events, monkeypatch):
        finished(mount)
        put, sent = FakeStore.put, []

        def damage_once(store, path, data):
            sent.append(path)
            if len(sent) == 1:
                raise damaged(path)
            put(store, path, data)

        monkeypatch.setattr(FakeStore, "put", damage_once)
        monkeypatch.setattr(committer, "RETRY_SECONDS", 0.0)
        limits = replace(LIMITS, stall=3600.0)
        report = drain(mount, limits, events.append, ended_well=True)
        assert report.complete
        assert report.checkpoints == ("checkpoint-3",)
        assert MANIFEST in mount.bucket.objects

    @pytest.mark.fault(18)
    def test_a_store_that_refuses_is_the_reason(self, mount, events):
        mount.write("log", dirty=True)
        mount.daemon.script = [Pending(("log",), (("log", "AccessDenied: sorry"),))]
        limits = replace(LIMITS, stall=3600.0)
        report = drain(mount, limits, events.append, ended_well=True)
        assert unproven(report) == ["log"]
        assert "AccessDenied" in report.unproven[0].reason


class TestRefusedForNow:
    """A refusal of the store that passes, and one that does not, in what only the drain asks."""

    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch):
        monkeypatch.setattr(drains, "RETRY_SECONDS", 0.05)

    def drain(self, mount, events, monkeypatch, refusals, may_pass):
        mount.save("log")
        listing, count = FakeStore.list, iter(range(1000))

        def refuse(store, prefix="", **more):
            if next(count) < refusals:
                error = PermissionDeniedError("The store refused the credentials.")
                error.may_pass = may_pass
                raise error
            return listing(store, prefix, **more)

        monkeypatch.setattr(FakeStore, "list", refuse)
        limits = replace(LIMITS, stall=3600.0)
        return drain(mount, limits, events.append, ended_well=True), next(count)

    @pytest.mark.fault(18, 35)
    @pytest.mark.parametrize("refusals", [1, 3])
    def test_one_that_passes_leaves_nothing_unproven(self, mount, events, monkeypatch, refusals):
        report, asked = self.drain(mount, events, monkeypatch, refusals, 3600.0)
        assert (report.files, report.unproven) == (1, ())
        assert asked == refusals + 1
        assert [e.reason for e in events if isinstance(e, Problem)] == [
            "The store refused the credentials."
        ]

    @pytest.mark.fault(18)
    def test_one_that_stays_is_final_after_that(self, mount, events, monkeypatch):
        report, asked = self.drain(mount, events, monkeypatch, 1000, 0.2)
        assert unproven(report) == ["log"]
        assert asked > 1

    @pytest.mark.fault(18)
    def test_a_key_that_is_plainly_wrong_is_not_asked_about_again(self, mount, events, monkeypatch):
        report, asked = self.drain(mount, events, monkeypatch, 1000, 0.0)
        assert unproven(report) == ["log"]
        assert asked == 1


class TestUnreadable:
    """What this machine knows of a mount cannot be read: nobody can say what was written."""

    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (MountUnavailableError("The journal is gone.", hint="See: ls"), "is gone. See: ls"),
            (IsADirectoryError(21, "Is a directory", "/state/strays.json"), "/state/strays.json"),
            (OSError(116, "Stale file handle"), "Stale file handle"),
            (ConfigurationError("strays.json holds no record.", hint="Remove it"), "no record"),
        ],
    )
    def test_the_mount_is_named_with_the_next_command(self, mount, events, error, says):
        def fail(_=""):
            raise error

        mount.daemon.files = fail
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == [mount.path]
        assert says in report.unproven[0].reason

    def test_only_for_a_moment_it_is_read_once_more(self, mount, events):
        mount.save("log")
        files, failing = mount.daemon.files, iter([OSError(116, "Stale file handle")])

        def fail_once(below=""):
            for error in failing:
                raise error
            return files(below)

        mount.daemon.files = fail_once
        limits = replace(LIMITS, stall=3600.0)
        report = drain(mount, limits, events.append, ended_well=True)
        assert (report.files, report.unproven) == (1, ())
        assert any("Stale file handle" in e.reason for e in events if isinstance(e, Problem))

    def test_what_bypassed_the_mount_is_known_no_more(self, mount, events):
        mount.save("log")
        (mount.directory.path / "strays.json").mkdir()
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert mount.path in unproven(report)
        assert any("strays.json" in problem.reason for problem in report.unproven)


class TestOneObject:
    """What is wrong with one object leaves the others as they are."""

    def break_reading(self, mount, monkeypatch, error, name):
        get = FakeStore.get

        def fail(store, path, **more):
            if path.endswith(name):
                raise error
            return get(store, path, **more)

        monkeypatch.setattr(FakeStore, "get", fail)

    @pytest.mark.fault(32)
    @pytest.mark.parametrize("error", [ObjectChangedError, ObjectMissingError])
    def test_one_that_changes_while_it_is_read_back(self, mount, events, monkeypatch, error):
        finished(mount)
        mount.save("log")
        mount.save("moved")
        reference = mount.daemon.reference

        def changed(path):
            if path == "moved":
                raise error("run/moved was replaced while it was being read.")
            return reference(path)

        mount.daemon.reference = changed
        report = drain(mount, LIMITS, events.append, ended_well=True)
        assert unproven(report) == ["moved"]
        assert "while it was being read" in report.unproven[0].reason
        assert (report.files, report.checkpoints) == (3, ("checkpoint-3",))

    @pytest.mark.parametrize("name", ["mountkit-manifest.json", "checkpoint-is-incomplete.txt"])
    def test_one_that_is_too_big_for_what_it_is(self, mount, events, monkeypatch, name):
        finished(mount)
        finished(mount, "checkpoint-4", 4)
        mount.save("log")
        error = VerificationError("It is bigger than 67108864 bytes.")
        self.break_reading(mount, monkeypatch, error, f"checkpoint-3/{name}")
        report = drain(mount, LIMITS, events.append, ended_well=True)
        if name == MANIFEST_NAME:
            # As one that cannot be read for another reason: a new one replaces it.
            assert (unproven(report), len(report.checkpoints)) == ([], 2)
        else:
            assert (unproven(report), report.checkpoints) == (["checkpoint-3"], ("checkpoint-4",))
            assert "is bigger than" in report.unproven[0].reason


class TestListing:
    """The whole bucket is listed once in each try."""

    def test_once_for_all_who_ask_what_it_has(self, mount, events):
        mount.begin()
        mount.save("log")
        mount.save("latest.rclonelink")
        mount.bucket.objects["run/older"] = b"1"
        assert drain(mount, LIMITS, events.append, ended_well=True).complete
        assert mount.bucket.asked("list").count("run") == 1

    def test_and_once_more_when_the_store_is_asked_again(self, mount, events, monkeypatch):
        monkeypatch.setattr(drains, "RETRY_SECONDS", 0.0)
        mount.save("log")
        # Another one's, which has to be asked about.
        mount.bucket.objects["run/older"] = b"1"
        failing = iter([MountUnavailableError("The store gave no answer.")])

        def fail_once(key):
            if key == "run/older":
                for error in failing:
                    raise error

        mount.bucket.before_attest = fail_once
        limits = replace(LIMITS, stall=3600.0)
        assert drain(mount, limits, events.append, ended_well=True).complete
        assert mount.bucket.asked("list").count("run") == 2

    def test_not_at_all_where_nothing_waits_on_this_machine(self, mount, events):
        mount.spec = replace(mount.spec, backend="mountpoint")
        mount.save("log")
        assert drain(mount, LIMITS, events.append, ended_well=True).complete
        assert mount.bucket.asked("list").count("run") == 0

    @pytest.mark.parametrize("became", ["proven", "removed"])
    def test_what_another_process_did_meanwhile_counts(self, mount, events, became):
        mount.save("log")
        state = "run/checkpoint-7/trainer_state.json"
        mount.bucket.objects[state] = b"1"

        def meanwhile(key):
            if key != "run/log":
                return
            if became == "removed":
                mount.bucket.objects.pop(state, None)
            else:
                mount.bucket.objects[f"run/checkpoint-7/{MANIFEST_NAME}"] = b"1"

        mount.bucket.before_attest = meanwhile
        assert drain(mount, LIMITS, events.append, ended_well=True).complete


class Clock:
    """Stands in for the module ``time``: it goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class TestTimeUp:
    def test_all_of_it_is_over_by_one_moment(self, mount, events, monkeypatch):
        clock = Clock()
        for module in (timeouts, timing, drains, committer, upload_waiter):
            monkeypatch.setattr(module, "time", clock)
        for step in range(1, 6):
            finished(mount, f"checkpoint-{step}", step)
        mount.save("log")
        waiting = tuple(mount.daemon.listed)
        # Bytes move all the time, and no upload ends.
        mount.daemon.script = [Pending(waiting, sent=number) for number in range(10_000)]
        limits = Limits(stall=120.0, drain=60.0, repair=60.0)
        report = drain(mount, limits, events.append, ended_well=True)
        assert unproven(report) == sorted(waiting)
        assert {problem.reason for problem in report.unproven} == {upload_waiter.TIME_UP}
        assert clock.now - 1000.0 < 62.0

    def test_a_signal_during_the_drain_counts_too(self, mount, events, monkeypatch):
        signalled = Deadline()
        finished(mount)
        mount.write("log", dirty=True)
        mount.daemon.script = [Pending(("log",))]
        mount.bucket.before_attest = lambda _: signalled.set(0.0)
        limits = Limits(stall=3600.0, drain=3600.0, repair=1.0).until(signalled)
        report = drain(mount, limits, events.append, ended_well=True)
        assert unproven(report) == ["log"]

    def test_a_look_for_what_was_forgotten_that_is_cut_short_proves_nothing(
        self, mount, events, monkeypatch
    ):
        finished(mount)
        deadline = Deadline()

        def evicted_unproven(*_):
            deadline.set(0.0)
            deadline.check()

        monkeypatch.setattr(drains, "evicted_unproven", evicted_unproven)
        report = drain(mount, LIMITS.until(deadline), events.append, ended_well=True)
        assert MANIFEST in mount.bucket.objects
        assert unproven(report) == [mount.path]
        assert "time was up" in report.unproven[0].reason


PARTS = st.sampled_from(["a", "b", "checkpoint-1", "checkpoint-20", "checkpoint-", "xcheckpoint-1"])
TREES = st.sets(st.lists(PARTS, min_size=1, max_size=4).map("/".join))


class TestGrouping:
    @given(TREES)
    def test_every_file_is_in_one_place(self, paths):
        files = [WrittenFile(path, 1, 0.0, dirty=False) for path in sorted(paths)]
        groups, loose = _group(files)
        placed = [file for members in groups.values() for file in members] + loose
        assert sorted(placed, key=lambda file: file.path) == files
        for top, members in groups.items():
            assert top.rpartition("/")[2].startswith("checkpoint-")
            assert all(file.path.startswith(f"{top}/") for file in members)

    @pytest.mark.parametrize(
        ("path", "group"),
        [
            ("checkpoint-3/model", "checkpoint-3"),
            ("out/checkpoint-3/sub/model", "out/checkpoint-3"),
            ("checkpoint-3/checkpoint-4/x", "checkpoint-3"),
            ("checkpoint-3", None),
            ("out/checkpoint-x/model", None),
            ("model", None),
        ],
    )
    def test_the_outermost_checkpoint_has_it(self, path, group):
        groups, loose = _group([WrittenFile(path, 1, 0.0, dirty=False)])
        assert list(groups) == ([group] if group else [])
        assert len(loose) == (0 if group else 1)


@given(st.lists(st.integers(0, 10**12)))
def test_a_report_adds_up(sizes):
    report = DrainReport(0, (), tuple(Unproven(str(n), size, "") for n, size in enumerate(sizes)))
    assert sum(problem.size for problem in report.unproven) == sum(sizes)
    assert report.complete == (not sizes)
