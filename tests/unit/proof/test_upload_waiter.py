"""Files on their way: the daemon's word says when to ask, and only the store's answer counts."""

from __future__ import annotations

from hashlib import md5
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.backends.base import Pending, WrittenFile
from mountkit.config.timeouts import Limits
from mountkit.errors import ConfigurationError, MountUnavailableError, PermissionDeniedError
from mountkit.events import Problem, UploadProgress
from mountkit.proof import upload_waiter
from mountkit.proof.upload_waiter import UploadWaiter, _Work
from mountkit.store import checksums
from mountkit.store.base import Attestation, Checksum
from mountkit.store.s3 import error_codes
from mountkit.timing import Deadline
from support.fakes import FakeMount, FakeStore

# No test waits for these; one that would is stopped by pytest and fails.
PATIENT = Limits(stall=3600.0, drain=3600.0, repair=3600.0)
HASTY = Limits(stall=0.05, drain=3600.0, repair=0.05)


@pytest.fixture
def mount(tmp_path) -> FakeMount:
    return FakeMount(tmp_path)


@pytest.fixture
def events() -> list:
    return []


def attest(mount, events, paths, limits=PATIENT, **more):
    return UploadWaiter(mount, limits, events.append).wait(paths, **more)


class TestProven:
    def test_what_the_store_attests_is_proven_with_its_checksum(self, mount, events):
        mount.save("d/b", b"bb")
        mount.save("d/a", b"")
        seen = []
        outcome = attest(mount, events, ["d/b", "d/a"], below="d", proven=seen.append)
        assert outcome.unproven == ()
        assert [entry.path for entry in outcome.proven] == ["d/a", "d/b"]
        entry = outcome.proven[1]
        assert entry.size == 2
        assert entry.crc64nvme == checksums.digest_bytes(b"bb").values["crc64nvme"]
        assert (entry.reference, entry.attested_by) == ("mount", "crc64nvme")
        assert entry.etag.startswith("etag-")
        assert sorted(seen, key=lambda found: found.path) == list(outcome.proven)

    def test_nothing_to_prove_asks_nobody(self, mount, events):
        assert attest(mount, events, []) == upload_waiter.Outcome((), ())
        assert mount.daemon.pushes == 0
        assert mount.bucket.requests == []

    @pytest.mark.fault(44)
    def test_what_was_removed_while_it_was_open_is_not_missed(self, mount, events):
        mount.save("kept")
        mount.daemon.listed["x"] = WrittenFile("x", 5, 1.0, dirty=False, gone=True)
        mount.lacks = frozenset({"x"})
        outcome = attest(mount, events, ["kept", "x"])
        assert (outcome.unproven, outcome.removed) == ((), ("x",))
        assert [entry.path for entry in outcome.proven] == ["kept"]

    @pytest.mark.fault(44)
    @pytest.mark.parametrize("gone", [True, False])
    def test_what_the_mount_shows_or_the_cache_still_has_is(self, mount, events, gone):
        # Bytes that were taken away; and those that the cache says it uploaded.
        mount.daemon.listed["x"] = WrittenFile("x", 5, 1.0, dirty=False, gone=gone)
        mount.lacks = frozenset() if gone else frozenset({"x"})
        outcome = attest(mount, events, ["x"], HASTY)
        assert [problem.path for problem in outcome.unproven] == ["x"]
        assert outcome.removed == ()

    @pytest.mark.fault(10)
    def test_an_empty_queue_proves_nothing_and_the_store_is_asked_until_it_has_it(
        self, mount, events
    ):
        mount.write("x")
        asked = []

        def arrive_late(key):
            asked.append(key)
            if len(asked) == 4:
                mount.upload("x")

        mount.bucket.before_attest = arrive_late
        outcome = attest(mount, events, ["x"])
        assert [entry.path for entry in outcome.proven] == ["x"]
        assert len(asked) == 4

    def test_a_file_that_left_the_cache_is_not_held_against_the_store(self, mount, events):
        mount.save("d/x", b"123")
        mount.evict("d/x")
        (problem,) = attest(mount, events, ["d/x"], HASTY).unproven
        assert "bytes as written are gone" in problem.reason

    def test_a_file_written_again_after_the_reference_was_taken_gets_a_new_one(self, mount, events):
        mount.save("x", b"old")

        def rewrite(_):
            mount.bucket.before_attest = lambda _: None
            mount.save("x", b"new")

        mount.bucket.before_attest = rewrite
        (entry,) = attest(mount, events, ["x"]).proven
        assert entry.crc64nvme == checksums.digest_bytes(b"new").values["crc64nvme"]

    def test_a_daemon_that_does_not_answer_is_no_reason_not_to_ask_the_store(self, mount, events):
        mount.save("x")
        mount.daemon.script = [MountUnavailableError("away")]
        assert len(attest(mount, events, ["x"]).proven) == 1


class TestAsking:
    def test_what_is_in_the_queue_is_waited_for(self, mount, events):
        mount.save("x")
        mount.daemon.script = [Pending(("x",)), Pending(("x",)), Pending()]
        assert len(attest(mount, events, ["x"]).proven) == 1
        assert mount.daemon.pushes == 3
        assert mount.bucket.asked("stat") == ["run/x"]
        waits = [event for event in events if isinstance(event, UploadProgress)]
        assert [(wait.files, wait.size) for wait in waits] == [(1, 4), (1, 4)]

    def test_what_the_cache_calls_dirty_is_waited_for(self, mount, events):
        mount.save("ready")
        mount.write("dirty", dirty=True)
        outcome = attest(mount, events, ["ready", "dirty"], HASTY)
        assert [entry.path for entry in outcome.proven] == ["ready"]
        assert [problem.path for problem in outcome.unproven] == ["dirty"]
        assert mount.bucket.asked("stat")[0] == "run/ready"

    @pytest.mark.fault(44)
    def test_what_stays_dirty_in_no_queue_is_compared_once_before_it_is_given_up(
        self, mount, events
    ):
        mount.save("same")
        mount.write("same", mount.bucket.objects["run/same"], dirty=True)
        mount.save("other")
        mount.write("other", b"longer than it was", dirty=True)
        limits = Limits(stall=0.4, drain=3600.0, repair=0.05)
        outcome = attest(mount, events, ["same", "other"], limits)
        assert [entry.path for entry in outcome.proven] == ["same"]
        (problem,) = outcome.unproven
        assert problem.path == "other"
        assert "still has it open" in problem.reason
        assert sorted(set(mount.bucket.asked("stat"))) == ["run/other", "run/same"]
        assert mount.bucket.asked("stat").count("run/other") == 1

    def test_a_proven_file_is_not_asked_for_again(self, mount, events):
        mount.save("a")
        mount.save("b")
        mount.daemon.script = [Pending(("b",)), Pending()]
        attest(mount, events, ["a", "b"])
        assert mount.bucket.asked("stat") == ["run/a", "run/b"]


class TestUnproven:
    def test_a_missing_file(self, mount, events):
        mount.write("x", b"12345")
        (problem,) = attest(mount, events, ["x"], HASTY).unproven
        assert (problem.path, problem.size) == ("x", 5)
        assert "does not have it" in problem.reason
        assert "5 bytes" in problem.reason

    @pytest.mark.parametrize(
        ("open_elsewhere", "says"),
        [(b"1234", "4 bytes"), (b"12346", "crc64nvme")],
        ids=["short", "altered"],
    )
    def test_what_the_store_holds_and_what_was_expected(self, mount, events, open_elsewhere, says):
        mount.write("x", b"12345")
        mount.bucket.objects["run/x"] = open_elsewhere
        (problem,) = attest(mount, events, ["x"], HASTY).unproven
        found, _, expected = problem.reason.partition("; expected ")
        assert says in found
        assert says.split()[-1] in expected
        assert found.removeprefix("the store holds ") != expected

    def test_a_file_that_is_still_open_is_said_to_be(self, mount, events):
        mount.write("log", dirty=True)
        (problem,) = attest(mount, events, ["log"], HASTY).unproven
        assert "still has it open" in problem.reason

    @pytest.mark.fault(14)
    def test_a_failing_upload_is_named_with_its_error_and_told_once(self, mount, events):
        mount.write("bad", dirty=True)
        mount.daemon.script = [Pending(("bad",), (("bad", "InternalError: oops"),))]
        (problem,) = attest(mount, events, ["bad"], HASTY).unproven
        assert problem.reason == "InternalError: oops"
        told = [event.reason for event in events if isinstance(event, Problem)]
        assert told == ["The upload of bad failed: InternalError: oops"]
        assert mount.directory.proof_stats.read().complaint.message == told[0]

    @pytest.mark.fault(14)
    def test_its_error_is_not_forgotten_while_it_is_tried_again(self, mount, events):
        mount.write("bad", dirty=True)
        failed = Pending(("bad",), (("bad", "InternalError: oops"),))
        mount.daemon.script = [failed, Pending(("bad",))]
        (problem,) = attest(mount, events, ["bad"], HASTY).unproven
        assert "InternalError: oops" in problem.reason

    def test_a_daemon_that_does_not_answer_is_the_reason(self, mount, events):
        mount.write("x", dirty=True)
        mount.daemon.script = [MountUnavailableError("rclone is away.")]
        (problem,) = attest(mount, events, ["x"], HASTY).unproven
        assert problem.reason == "rclone is away."

    def test_the_deadline_holds_even_while_bytes_move(self, mount, events):
        mount.write("x", dirty=True)
        mount.daemon.script = [Pending(("x",), sent=number) for number in range(10_000)]
        limits = Limits(stall=3600.0, drain=0.1, repair=0.1)
        (problem,) = attest(mount, events, ["x"], limits).unproven
        assert problem.reason == upload_waiter.TIME_UP
        assert mount.daemon.pushes < 10_000

    @pytest.mark.fault(39)
    def test_a_name_that_does_not_survive_is_refused_by_name(self, mount, events):
        mount.save("a\nb")
        (problem,) = attest(mount, events, ["a\nb"]).unproven
        assert "control character" in problem.reason
        assert mount.bucket.requests == []


class TestTimeUp:
    def test_a_file_that_is_being_read_is_not_read_to_its_end(self, mount, events, monkeypatch):
        """As for a store that has but an MD5 of it, while the platform is about to kill."""
        whole, views, seen = bytes(5 * checksums.CHUNK_BYTES), checksums._views, []
        mount.save("x", whole)
        tag = md5(whole).hexdigest()
        attestation = Attestation(len(whole), tag, (Checksum("md5", tag, "tag"),))
        deadline = Deadline()

        def reading(*args):
            for view in views(*args):
                seen.append(view.nbytes)
                if len(seen) == 7:
                    # The daemon's copy was read once, as it was written; now it is the MD5's turn.
                    deadline.set(0.0)
                yield view

        monkeypatch.setattr(checksums, "_views", reading)
        monkeypatch.setattr(FakeStore, "stat", lambda *_: attestation)
        (problem,) = attest(mount, events, ["x"], PATIENT.until(deadline)).unproven
        assert problem.reason == upload_waiter.TIME_UP
        assert len(seen) == 7

    def test_one_that_is_hashed_as_written_neither(self, mount, events, monkeypatch):
        mount.save("x")
        deadline = Deadline()

        def reference(_):
            deadline.set(0.0)
            deadline.check()

        monkeypatch.setattr(mount.daemon, "reference", reference)
        (problem,) = attest(mount, events, ["x"], PATIENT.until(deadline)).unproven
        assert problem.reason == upload_waiter.TIME_UP
        assert mount.bucket.asked("stat") == []

    def test_nor_are_thousands_more_begun(self, mount, events):
        deadline = Deadline()
        paths = [f"{number:03}" for number in range(200)]
        for path in paths:
            mount.save(path)
        mount.bucket.before_attest = lambda _: deadline.set(0.0)
        outcome = attest(mount, events, paths, PATIENT.until(deadline))
        assert len(mount.bucket.asked("stat")) <= upload_waiter.WORKERS * 4
        assert {problem.reason for problem in outcome.unproven} == {upload_waiter.TIME_UP}


FINAL_REFUSALS = (
    "AllAccessDisabled",
    "InvalidAccessKeyId",
    "NoSuchBucket",
    "SignatureDoesNotMatch",
)


class TestRefusal:
    @pytest.mark.fault(18)
    @pytest.mark.parametrize("word", FINAL_REFUSALS)
    def test_the_store_refuses_and_nobody_waits(self, mount, events, word):
        mount.write("x", dirty=True)
        mount.daemon.script = [Pending(("x",), (("x", f"api error {word}: sorry"),))]
        with pytest.raises(PermissionDeniedError) as caught:
            attest(mount, events, ["x"])
        assert "x" in caught.value.message
        assert word in caught.value.message
        assert mount.daemon.pushes == 1

    @pytest.mark.fault(18, 35)
    @pytest.mark.parametrize("word", ["AccessDenied", "ExpiredToken", "RequestTimeTooSkewed"])
    def test_one_that_passes_keeps_nobody_from_the_proof(self, mount, events, word):
        mount.write("x", dirty=True)
        refused = Pending(("x",), (("x", f"api error {word}: sorry"),))

        def flush_uploads() -> Pending:
            mount.daemon.pushes += 1
            if mount.daemon.pushes < 3:
                return refused
            mount.upload("x")
            return Pending()

        mount.daemon.flush_uploads = flush_uploads
        assert len(attest(mount, events, ["x"]).proven) == 1
        assert any(word in e.reason for e in events if isinstance(e, Problem))

    @pytest.mark.parametrize("word", ["AccessDenied", "StatusCode: 403"])
    def test_denied_a_second_time_some_seconds_later_is_final(
        self, mount, events, monkeypatch, word
    ):
        monkeypatch.setattr(error_codes, "DENIED_SECONDS", 0.3)
        mount.write("x", dirty=True)
        mount.daemon.script = [Pending(("x",), (("x", word),))]
        with pytest.raises(PermissionDeniedError) as caught:
            attest(mount, events, ["x"])
        assert mount.daemon.pushes > 1
        assert caught.value.may_pass == 0.0

    @pytest.mark.fault(18, 35)
    @pytest.mark.parametrize("kind", [PermissionDeniedError, ConfigurationError])
    @pytest.mark.parametrize("passes", [True, False])
    def test_nor_does_a_store_that_refuses_for_a_while(self, mount, events, kind, passes):
        mount.save("x")
        count = iter(range(1000))

        def refuse(_):
            number = next(count)
            error = kind(f"refused {number}")
            error.may_pass = 3600.0 if passes else 0.2
            if number < 3 or not passes:
                raise error

        mount.bucket.before_attest = refuse
        if passes:
            assert len(attest(mount, events, ["x"]).proven) == 1
        else:
            with pytest.raises(kind) as caught:
                attest(mount, events, ["x"])
            # Whoever gets it asks nobody again.
            assert caught.value.may_pass == 0.0
            assert next(count) > 1

    def test_a_refused_file_of_somebody_else_is_not_ours(self, mount, events):
        mount.save("mine")
        mount.daemon.script = [Pending(("other",), (("other", "AccessDenied"),))]
        assert len(attest(mount, events, ["mine"]).proven) == 1
        assert mount.directory.proof_stats.read().complaint is None


class TestStoreAway:
    @pytest.mark.fault(33)
    def test_a_store_that_is_away_for_a_while_is_asked_again(self, mount, events):
        mount.save("x")

        def fail_once(_):
            mount.bucket.before_attest = lambda _: None
            raise MountUnavailableError("The store gave no answer.")

        mount.bucket.before_attest = fail_once
        assert len(attest(mount, events, ["x"]).proven) == 1
        assert mount.directory.proof_stats.read().complaint.message == "The store gave no answer."


class TestWork:
    """What is known so far; it reads clocks and does no I/O."""

    def work(self, *paths, limits=PATIENT) -> _Work:
        return _Work("rclone", limits, list(paths), "")

    def test_bytes_that_move_are_progress(self):
        work = self.work("x")
        before = work._progress
        work.look((Pending(("x",), sent=10), ()))
        first = work._progress
        work.look((Pending(("x",), sent=10), ()))
        assert before < first == work._progress
        work.look((Pending(("x",), sent=11), ()))
        assert work._progress > first

    def test_bytes_of_a_failing_upload_are_none(self):
        work = self.work("x")
        before = work._progress
        work.look((Pending(("x",), (("x", "oops"),), sent=10), ()))
        assert work._progress == before

    def test_the_pause_grows_and_progress_shortens_it(self):
        work = self.work("x")
        pauses = [work.pause() for _ in range(20)]
        assert pauses == sorted(pauses)
        assert pauses[-1] == upload_waiter.LONGEST_PAUSE_SECONDS
        work.look((Pending(("x",), sent=1), ()))
        assert work.pause() < 0.1

    @given(
        st.sets(st.sampled_from("abcdef"), min_size=1),
        st.sets(st.sampled_from("abcdef")),
        st.sets(st.sampled_from("abcdef")),
    )
    def test_only_what_is_open_and_not_busy_is_asked_for(self, paths, waiting, dirty):
        work = self.work(*sorted(paths))
        files = tuple(WrittenFile(path, 1, 0.0, dirty=True) for path in sorted(dirty))
        work.look((Pending(tuple(waiting)), files))
        assert work.askable == sorted(paths - waiting - dirty)
        outcome = work.outcome()
        assert {problem.path for problem in outcome.unproven} == paths
        assert outcome.proven == ()


@pytest.mark.parametrize("name", ["a b", "ü/ö", "a#b", "-", "a\\b"])
def test_names_that_survive(name):
    assert upload_waiter.keeps_its_name(name)


@pytest.mark.parametrize("name", ["a\nb", "\t", "a/\x7f"])
def test_names_that_do_not(name):
    assert not upload_waiter.keeps_its_name(name)


def test_the_mount_is_not_touched_for_what_is_in_the_cache(mount, events):
    mount.save("x")
    assert not list(Path(mount.path).iterdir())
    attest(mount, events, ["x"])
