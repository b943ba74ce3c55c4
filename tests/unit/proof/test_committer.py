"""What makes a directory a checkpoint: its manifest, written last and only if all is proven."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.checkpoints.manifest import Manifest
from mountkit.config.timeouts import Limits
from mountkit.errors import (
    MountUnavailableError,
    NotDurableError,
    PermissionDeniedError,
    Unproven,
    UsageError,
)
from mountkit.events import CheckpointProven, FileProven, Problem, ProofStarted
from mountkit.proof import committer
from mountkit.proof.committer import Prover
from mountkit.proof.report import NAMED, not_proven
from mountkit.store import checksums
from support.fakes import FakeMount, astray

LIMITS = Limits(stall=0.05, drain=60.0, repair=0.05)
PATIENT = Limits(stall=3600.0, drain=3600.0, repair=1.0)
NAME = "checkpoint-3"
KEY = "run/out/checkpoint-3/mountkit-manifest.json"


@pytest.fixture
def mount(tmp_path) -> FakeMount:
    return FakeMount(tmp_path)


@pytest.fixture
def events() -> list:
    return []


@pytest.fixture
def prover(mount, events) -> Prover:
    return Prover(mount, "out", LIMITS, events.append)


class TestProve:
    def test_the_manifest_is_written_last_and_says_what_was_proven(self, mount, prover):
        mount.save("out/checkpoint-3/model", b"123")
        mount.save("out/checkpoint-3/sub/state", b"")
        manifest = prover.prove(NAME, 3, ["sub/state", "model"])
        assert mount.bucket.requests[-1] == ("put", KEY)
        assert mount.bucket.asked("put") == [KEY]
        assert Manifest.from_bytes(mount.bucket.objects[KEY]) == manifest
        assert [(entry.path, entry.size) for entry in manifest.files] == [
            ("model", 3),
            ("sub/state", 0),
        ]
        assert manifest.step == 3
        assert manifest.source == "s3://bucket/run/out/checkpoint-3"

    def test_it_is_remembered_and_shown(self, mount, prover):
        mount.save("out/checkpoint-3/model")
        manifest = prover.prove(NAME, 3, ["model"])
        account = mount.directory.proof_stats.read()
        assert (account.proofs, account.failures, account.complaint) == (1, 0, None)
        remembered = account.proven
        assert (remembered.checkpoint, remembered.step) == ("out/checkpoint-3", 3)
        assert datetime.fromisoformat(remembered.at) == manifest.created
        assert mount.daemon.refreshed == ["out/checkpoint-3"]

    def test_the_events_tell_the_story(self, mount, events, prover):
        mount.save("out/checkpoint-3/a", b"1")
        mount.save("out/checkpoint-3/b", b"22")
        prover.prove(NAME, 3, ["a", "b"], began=0.0)
        assert events[0] == ProofStarted(3, 2)
        proven = {event.path: event.size for event in events if isinstance(event, FileProven)}
        assert proven == {"a": 1, "b": 2}
        last = events[-1]
        assert isinstance(last, CheckpointProven)
        assert (last.step, last.files, last.size) == (3, 2, 3)
        assert last.seconds > 0

    def test_at_the_top_of_the_mount(self, mount, events):
        mount.save("checkpoint-3/a")
        Prover(mount, "", LIMITS, events.append).prove(NAME, 3, ["a"])
        assert mount.bucket.asked("put") == ["run/checkpoint-3/mountkit-manifest.json"]

    def test_an_old_manifest_is_not_part_of_the_new_one(self, mount, prover):
        mount.save("out/checkpoint-3/model")
        manifest = prover.prove(NAME, 3, ["model", "mountkit-manifest.json"])
        assert [entry.path for entry in manifest.files] == ["model"]

    def test_a_mount_that_shows_it_late_is_no_failure(self, mount, events, prover):
        mount.save("out/checkpoint-3/model")
        mount.daemon.refresh_error = MountUnavailableError("away")
        prover.prove(NAME, 3, ["model"])
        assert KEY in mount.bucket.objects
        assert Problem("away") in events


class TestRefusal:
    def refused(self, mount, prover, files) -> NotDurableError:
        with pytest.raises(NotDurableError) as caught:
            prover.prove(NAME, 3, files)
        assert mount.bucket.asked("put") == []
        account = mount.directory.proof_stats.read()
        assert (account.proven, account.proofs, account.failures) == (None, 0, 1)
        assert account.complaint.message == caught.value.message
        return caught.value

    def test_one_file_that_is_not_there(self, mount, prover):
        mount.save("out/checkpoint-3/a")
        mount.write("out/checkpoint-3/b", b"12345")
        error = self.refused(mount, prover, ["a", "b"])
        assert [problem.path for problem in error.unproven] == ["out/checkpoint-3/b"]
        assert "out/checkpoint-3/b (5 bytes)" in error.message
        assert error.exit_code == 75

    @pytest.mark.parametrize("files", [[], ["mountkit-manifest.json"]])
    def test_an_empty_directory(self, mount, prover, files):
        assert "no file" in self.refused(mount, prover, files).message

    @pytest.mark.fault(7)
    def test_a_file_that_reached_the_local_disk_instead(self, mount, prover):
        mount.save("out/checkpoint-3/a")
        mount.directory.bypassed.add(astray("out/checkpoint-3/b", "out/checkpoint-30/c"))
        error = self.refused(mount, prover, ["a"])
        assert [problem.path for problem in error.unproven] == ["out/checkpoint-3/b"]
        assert f"{mount.spec.cache_dir}/strays" in error.message
        assert mount.bucket.asked("stat") == [], "it is refused at once"

    def test_one_that_did_so_during_the_proof(self, mount, prover):
        mount.save("out/checkpoint-3/a")
        late = astray("out/checkpoint-3/b")
        mount.bucket.before_attest = lambda _: mount.directory.bypassed.add(late)
        error = self.refused(mount, prover, ["a"])
        assert [problem.path for problem in error.unproven] == ["out/checkpoint-3/b"]

    def test_one_of_another_checkpoint_does_not_matter(self, mount, prover):
        mount.save("out/checkpoint-3/a")
        mount.directory.bypassed.add(astray("out/checkpoint-30/a", "out/checkpoint-3x"))
        prover.prove(NAME, 3, ["a"])

    def test_once_it_is_saved_again_it_can_be_proven(self, mount, prover):
        mount.save("out/checkpoint-3/a")
        mount.directory.bypassed.add(astray("out/checkpoint-3/a", "out/checkpoint-30/a"))
        prover.begin(NAME)
        prover.prove(NAME, 3, ["a"])
        assert mount.directory.bypassed.paths() == ("out/checkpoint-30/a",)


class TestRemove:
    def test_the_manifest_goes_first(self, mount, prover):
        mount.save("out/checkpoint-3/a")
        mount.save("out/checkpoint-30/a")
        prover.prove(NAME, 3, ["a"])
        prover.remove(NAME)
        assert mount.bucket.asked("delete")[0] == KEY
        assert list(mount.bucket.objects) == ["run/out/checkpoint-30/a"]
        assert mount.daemon.refreshed[-1] == "out"

    def test_that_it_goes_is_noted_before_the_first_file_does(self, mount, prover):
        mount.save("out/checkpoint-3/a")
        prover.prove(NAME, 3, ["a"])
        noted = []

        def note(key):
            if key.endswith("/a"):
                noted.append(mount.directory.bypassed.removed())

        mount.bucket.before_delete = note
        prover.remove(NAME)
        assert [list(each) for each in noted] == [["out/checkpoint-3"]]

    def test_not_while_the_mount_is_being_repaired(self, mount, events, prover):
        mount.save("out/checkpoint-3/a")
        prover.prove(NAME, 3, ["a"])
        mount.alive = False
        assert prover.remove(NAME) is False
        assert KEY in mount.bucket.objects
        assert mount.bucket.asked("delete") == []

    def test_a_file_written_again_during_the_proof_is_attested_again(self, mount, events):
        # The two are asked for at once: where "a" was asked for just then, it takes a round more.
        prover = Prover(mount, "out", PATIENT, events.append)
        mount.save("out/checkpoint-3/a", b"111")
        mount.save("out/checkpoint-3/b", b"222")
        changed = []

        def rewrite(key):
            if key.endswith("/b") and not changed:
                changed.append(key)
                mount.save("out/checkpoint-3/a", b"333")

        mount.bucket.before_attest = rewrite
        manifest = prover.prove(NAME, 3, ["a", "b"])
        expected = checksums.digest_bytes(b"333").values["crc64nvme"]
        assert manifest.files[0].crc64nvme == expected

    def test_the_mount_gives_the_room_back(self, mount, prover):
        folder = Path(mount.path) / "out" / NAME
        folder.mkdir(parents=True)
        (folder / "a").write_text("x")
        prover.remove(NAME)
        assert not folder.exists()
        assert folder.parent.exists()

    def test_nothing_is_removed_while_the_manifest_speaks_for_it(self, mount, prover):
        folder = Path(mount.path) / "out" / NAME
        folder.mkdir(parents=True)

        def refuse(key):
            raise PermissionDeniedError(f"{key} may not be deleted.")

        mount.bucket.before_delete = refuse
        with pytest.raises(PermissionDeniedError):
            prover.remove(NAME)
        assert folder.exists()

    def test_a_mount_that_does_not_is_told(self, mount, events, prover):
        folder = Path(mount.path) / "out"
        folder.mkdir()
        (folder / NAME).write_text("no directory")
        mount.save("out/checkpoint-3/a")
        prover.remove(NAME)
        assert mount.bucket.objects == {}
        assert any(isinstance(event, Problem) for event in events)

    def test_what_is_no_checkpoint_is_left_alone(self, mount, prover):
        mount.save("out/notes/a")
        with pytest.raises(UsageError):
            prover.remove("notes")
        assert "run/out/notes/a" in mount.bucket.objects

    def test_withdrawing_deletes_the_manifest_alone(self, mount, prover):
        mount.save("out/checkpoint-3/a")
        prover.prove(NAME, 3, ["a"])
        prover.withdraw(NAME)
        assert list(mount.bucket.objects) == ["run/out/checkpoint-3/a"]


@given(st.integers(1, 20))
def test_the_first_few_files_are_named_and_the_rest_counted(number):
    problems = [Unproven(f"file-{n:02}", n, "it is away") for n in range(number)]
    error = not_proven("checkpoint-3", problems)
    first, *lines = error.message.splitlines()
    assert first == f"checkpoint-3 is not proven to be in the store: {number} file" + (
        "s." if number > 1 else "."
    )
    assert len(lines) == min(number, NAMED) + (number > NAMED)
    assert "file-00 (0 bytes): it is away" in lines[0]
    assert (f"and {number - NAMED} more" in error.message) is (number > NAMED)
    assert error.unproven == tuple(problems)


@pytest.mark.fault(18, 35)
@pytest.mark.parametrize(("may_pass", "refusals"), [(3600.0, 3), (0.0, 1)])
def test_a_refusal_that_may_pass_is_asked_about_again(
    mount, events, monkeypatch, may_pass, refusals
):
    monkeypatch.setattr(committer, "RETRY_SECONDS", 0.0)
    prover = Prover(mount, "out", PATIENT, events.append)
    count = iter(range(1000))

    def refuse(key: str) -> None:
        if next(count) < refusals:
            error = PermissionDeniedError(f"{key} may not be deleted.")
            error.may_pass = may_pass
            raise error

    mount.bucket.before_delete = refuse
    if may_pass:
        prover.withdraw(NAME)
    else:
        with pytest.raises(PermissionDeniedError):
            prover.withdraw(NAME)
    assert next(count) == refusals + (1 if may_pass else 0)
