"""What a run has saved into a directory, told from what was there before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from mountkit.backends.base import CacheLostError
from mountkit.backends.direct.control import DirectControl
from mountkit.backends.direct.walk import SCRIPT
from mountkit.errors import MountUnavailableError
from mountkit.linux import bounded_read
from mountkit.linux.process import ProcessIdentity
from mountkit.names import LEASE_NAME, MANIFEST_NAME, TRAINER_STATE
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state import baseline
from mountkit.state.mount_directory import StateDirectory
from mountkit.state.record import SERVING, MountRecord, now
from mountkit.state.write_journal import UNFINISHED, Journal
from mountkit.store.checksums import REFERENCE, digest_bytes
from mountkit.writers.sequential_file import stamp
from support.assertions import crc64


class Run:
    """A directory, and the control of a run that began."""

    def __init__(self, folder) -> None:
        self.top, private = folder / "run", folder / "private"
        for place in (self.top, private):
            place.mkdir()
        source = Source("file", "", str(self.top).lstrip("/"))
        self.spec = MountSpec(source, str(self.top), "direct", StoreOptions(), str(folder))
        self.state = StateDirectory(private)
        self.journal = Journal(private)
        self.record = MountRecord(
            self.spec, SERVING, now(), ProcessIdentity.mine(), began=time.time()
        )
        self.state.write(self.record)
        self.control = DirectControl(self.spec, private)

    def write(self, path: str, data: bytes = b"data") -> None:
        place = self.top / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    def next(self, *unproven: str) -> None:
        """Another run, after one that was killed, or that has named these as unproven."""
        named = {"unproven": unproven, "named": time.time()} if unproven else {}
        self.record = replace(self.record, began=self.record.began + 5, **named)
        self.state.begin()
        self.state.write(self.record)
        self.control.self_check()

    def cut(self, path: str, data: bytes = b"cut") -> None:
        """As a writer does that is killed."""
        self.journal.begin(path)
        self.write(path, data)

    def lost(self) -> dict[str, str]:
        return dict(self.control.flush_uploads().lost)

    def stamp(self, path: str) -> str:
        return stamp(str(self.top / path), whole=True)

    def paths(self, below: str = "") -> list[str]:
        return [file.path for file in self.control.files(below)]


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path)


class TestFiles:
    def test_what_was_there_before_is_nobodys_concern_until_it_changes(self, run):
        for name in ("old", "touched", "replaced"):
            run.write(name)
        run.control.self_check()
        assert run.paths() == []
        run.write("new/a")
        # With the time of its content set back, as a copy that keeps it does.
        run.write("touched", b"atad")
        os.utime(run.top / "touched", (1, 1))
        run.write("other")
        (run.top / "other").rename(run.top / "replaced")
        assert run.paths() == ["new/a", "replaced", "touched"]
        assert run.paths("new") == ["new/a"]
        assert all(file.modified >= run.record.began for file in run.control.files())

    def test_a_run_that_goes_on_knows_what_the_one_before_it_wrote(self, run):
        run.control.self_check()
        run.write("a")
        run.control.self_check()
        assert run.paths() == ["a"]

    def test_nor_is_what_mountkit_puts_there_itself(self, run):
        run.control.self_check()
        for name in (
            LEASE_NAME,
            f"checkpoint-3/{MANIFEST_NAME}",
            f"checkpoint-3/{MANIFEST_NAME}.1a.partial",
        ):
            run.write(name)
        (run.top / "latest").symlink_to("checkpoint-3")
        (run.top / "checkpoint-3" / "base").symlink_to("../elsewhere")
        # A checkpoint is whole by itself: a link in it is looked at.
        assert run.paths() == ["checkpoint-3/base"]
        assert "whole by itself" in run.control.flush_uploads().lost[0][1]

    def test_a_directory_that_is_gone_is_not_an_empty_one(self, run):
        run.control.self_check()
        run.top.rename(run.top.with_name("elsewhere"))
        with pytest.raises(MountUnavailableError, match="No such file"):
            run.control.files()

    def test_nor_is_one_whose_disk_was_gone_for_a_while(self, run):
        run.control.self_check()
        run.write("a")
        baseline.note_lost(run.state.path, "The disk was gone.")
        for _ in range(2):
            with pytest.raises(CacheLostError, match="The disk was gone"):
                run.control.files()
            # Nor for the next run, where this one was killed before it said so.
            assert run.state.begin()
        run.state.forget_lost()
        # What it wrote the next run has to prove.
        assert run.paths() == ["a"]

    def test_nor_is_another_one_in_its_place(self, run):
        run.control.self_check()
        run.write("a")
        run.top.rename(run.top.with_name("elsewhere"))
        run.top.mkdir()
        with pytest.raises(CacheLostError, match="another directory"):
            run.control.files()
        # Also once it is back: what was written meanwhile is not there.
        run.top.rmdir()
        run.top.with_name("elsewhere").rename(run.top)
        with pytest.raises(CacheLostError, match="another directory"):
            run.control.files()

    def test_a_repair_finds_no_way_round_that(self, run):
        run.control.self_check()
        run.write("a")
        run.top.rename(run.top.with_name("elsewhere"))
        run.top.mkdir()
        run.control.self_check()
        with pytest.raises(CacheLostError, match="another directory"):
            run.control.files()
        run.top.rmdir()
        run.top.with_name("elsewhere").rename(run.top)
        run.control.self_check()
        with pytest.raises(CacheLostError, match="another directory"):
            run.control.files()

    def test_once_that_is_said_all_in_the_other_one_is_to_be_proven(self, run):
        run.write("old")
        run.control.self_check()
        run.cut("model")
        run.top.rename(run.top.with_name("elsewhere"))
        run.top.mkdir()
        for name in ("old", "model"):
            run.write(name)
        run.state.begin()
        with pytest.raises(CacheLostError, match="another directory"):
            run.control.files()
        run.state.begin_elsewhere()
        run.next()
        assert run.paths() == ["model", "old"]
        assert run.lost() == {}

    def test_what_an_earlier_version_noted_is_known(self, run):
        run.control.self_check()
        noted = run.state.path / baseline.BASELINE_NAME
        content = json.loads(noted.read_text())
        noted.write_text(
            json.dumps({name: content[name] for name in ("at", "ahead", "top", "lost", "files")})
        )
        run.write("a")
        run.next()
        assert run.paths() == ["a"]

    def test_a_link_that_leads_out_holds_nothing_here(self, run, tmp_path):
        (tmp_path / "weights").write_bytes(b"data")
        run.control.self_check()
        (run.top / "final").mkdir()
        (run.top / "final" / "model").symlink_to(tmp_path / "weights")
        (run.top / "checkpoint-3").symlink_to(tmp_path)
        lost = dict(run.control.flush_uploads().lost)
        assert set(lost) == {"final/model", "checkpoint-3"}
        assert "leads out" in lost["final/model"]

    def test_one_that_was_there_before_is_told_for_what_is_written_through_it(self, run, tmp_path):
        (tmp_path / "scratch").mkdir()
        (run.top / "export").symlink_to(tmp_path / "scratch")
        (run.top / "inside").symlink_to("a")
        run.control.self_check()
        run.write("a")
        (run.top / "export" / "model").write_bytes(b"data")
        (run.top / "new").symlink_to(tmp_path / "scratch")
        assert run.control.links_out() == ("export",)

    def test_where_it_is_gone_nothing_is_known(self, run):
        run.control.self_check()
        run.write("a")
        (run.state.path / baseline.BASELINE_NAME).unlink()
        with pytest.raises(CacheLostError, match=r"baseline\.json is gone"):
            run.control.files()
        # A run that begins after that says so, once, and finds all that is there.
        run.state.begin_elsewhere()
        run.next()
        assert run.paths() == ["a"]


class TestReference:
    def test_what_a_writer_of_ours_was_given_counts_and_not_what_the_disk_has(self, run):
        run.control.self_check()
        run.write("a", b"cut")
        # Its writer has noted it, and the disk lost the end of it.
        run.journal.done("a", 5, crc64(b"whole"), run.stamp("a"))
        reference = run.control.reference("a")
        assert (reference.taken, reference.digest.size) == ("write", 5)
        assert reference.digest.values[REFERENCE] == crc64(b"whole")

    def test_what_anybody_else_wrote_is_read(self, run):
        run.control.self_check()
        run.write("deep/a", b"whole")
        run.journal.done("deep/b", 5, crc64(b"whole"))
        reference = run.control.reference("deep/a")
        assert (reference.taken, reference.digest) == ("mount", digest_bytes(b"whole"))
        assert run.control.reference("deep/b") is None

    def test_nor_does_a_line_of_before_speak_for_what_was_written_since(self, run):
        run.control.self_check()
        run.write("a", b"whole")
        run.journal.done("a", 5, crc64(b"whole"), run.stamp("a"))
        run.write("a", b"other")
        assert run.control.reference("a").taken == "mount"

    def test_what_was_read_first_stays_what_the_disk_is_compared_with(self, run):
        """The disk may give other bytes once the kernel has forgotten those that were written."""
        run.control.self_check()
        run.write("a", b"whole")
        again = DirectControl(run.spec, run.state.path)
        assert run.control.reference("a").digest == digest_bytes(b"whole")
        # As a disk does: the file is the same by all that it says of itself.
        seen = (run.top / "a").stat()
        run.control._digest = again._digest = lambda _: digest_bytes(b"wrong")
        assert again.reference("a").digest == digest_bytes(b"whole")
        run.write("a", b"other")
        assert (run.top / "a").stat().st_ctime_ns != seen.st_ctime_ns
        again.files()
        assert again.reference("a").digest == digest_bytes(b"wrong")

    @pytest.mark.parametrize("problem", ["No space left on device", UNFINISHED])
    def test_what_did_not_get_to_its_end_has_none_and_is_lost(self, run, problem):
        run.control.self_check()
        run.write("a", b"cut")
        inode = stamp(str(run.top / "a"), whole=False) if problem != UNFINISHED else ""
        run.journal.failed("a", problem, inode)
        assert run.control.reference("a") is None
        assert run.control.flush_uploads().lost == (("a", problem),)
        assert [file.dirty for file in run.control.files()] == [True]
        assert problem in run.control.last_error()[1]
        # It is so for the next run, too: nobody else can tell it from a whole one.
        run.state.write(replace(run.record, began=time.time() + 5))
        assert run.control.flush_uploads().lost == (("a", problem),)
        # Until it is written anew.
        run.write("a", b"whole")
        run.journal.done("a", 5, crc64(b"whole"), run.stamp("a"))
        assert run.control.flush_uploads().lost == ()

    def test_a_save_that_a_killed_run_had_begun_is_not_lost_for_each_run_after_it(self, run):
        run.control.self_check()
        run.cut("checkpoint-3/model")
        lost = {"checkpoint-3/model": UNFINISHED}
        assert run.lost() == lost
        # The next run has not told of it yet.
        run.next()
        assert run.lost() == lost
        for unproven in (("checkpoint-3/model",), ()):
            run.next(*unproven)
            assert run.lost() == {}
            # Nor does anybody say that it is proven.
            assert run.control.files() == ()
        # Whoever takes it for finished is told that it is not.
        run.write(f"checkpoint-3/{TRAINER_STATE}", b"{}")
        assert run.lost() == lost

    def test_one_that_was_named_for_another_reason_is_still_to_be_told_of(self, run):
        run.control.self_check()
        run.write("checkpoint-3/model", b"whole")
        run.next("checkpoint-3/model")
        run.cut("checkpoint-3/model")
        for _ in range(2):
            run.next()
            assert run.lost() == {"checkpoint-3/model": UNFINISHED}

    def test_one_that_its_own_run_has_named_is_told_of(self, run):
        run.control.self_check()
        run.cut("checkpoint-3/model")
        run.cut("checkpoint-3/other")
        # Not as it is found by the next run, though.
        named = ("checkpoint-3/model", "checkpoint-3/other")
        run.record = replace(run.record, unproven=named, named=time.time())
        run.write("checkpoint-3/other", b"more")
        run.next()
        assert run.lost() == {"checkpoint-3/other": UNFINISHED}

    @pytest.mark.parametrize("same", [True, False])
    def test_nor_is_a_second_one_at_the_same_place_told_of_by_the_first(self, run, same):
        run.control.self_check()
        run.cut("checkpoint-3/model")
        run.next()
        run.next("checkpoint-3/model")
        assert run.lost() == {}
        # Killed before it wrote a byte, or later.
        if same:
            run.journal.begin("checkpoint-3/model")
        else:
            run.cut("checkpoint-3/model", b"less")
        run.next()
        assert run.lost() == {"checkpoint-3/model": UNFINISHED}

    def test_nor_does_it_hide_what_somebody_else_writes_there(self, run):
        run.control.self_check()
        run.cut("checkpoint-3/model")
        run.next()
        run.next("checkpoint-3/model")
        # Into the same file: some of what was cut off may still be in it.
        run.write("checkpoint-3/model", b"whole")
        assert run.lost() == {"checkpoint-3/model": UNFINISHED}
        run.write("checkpoint-3/new", b"whole")
        (run.top / "checkpoint-3" / "new").rename(run.top / "checkpoint-3" / "model")
        for _ in range(2):
            assert run.lost() == {}
            assert run.paths() == ["checkpoint-3/model"]
            run.next()

    def test_nor_what_is_there_where_the_killed_writer_had_made_no_file(self, run):
        run.control.self_check()
        run.journal.begin("model")
        run.next()
        run.write("model", b"whole")
        assert run.lost() == {}
        assert run.paths() == ["model"]

    def test_what_failed_is_told_of_by_each_run(self, run):
        run.control.self_check()
        run.write("checkpoint-3/model", b"cut")
        run.journal.failed("checkpoint-3/model", "No space left on device")
        later = replace(run.record, began=time.time() + 5, unproven=("checkpoint-3/model",))
        run.state.write(later)
        assert len(run.control.flush_uploads().lost) == 1

    def test_a_volume_has_another_device_for_the_run_that_goes_on(self, run):
        run.control.self_check()
        run.write("a")
        known = baseline.read(run.state.path)
        moved = replace(known, top=(known.top[0] + 1, known.top[1]), ahead=3600.0)
        baseline.write(run.state.path, moved)
        run.state.begin()
        assert run.paths() == ["a"]
        run.next()
        seen = baseline.read(run.state.path)
        assert seen.top == known.top
        assert seen.ahead < 3000
        # While it runs, it is another directory.
        baseline.write(run.state.path, moved)
        with pytest.raises(CacheLostError, match="another directory"):
            run.control.files()

    def test_another_file_in_its_place_is_another_one(self, run):
        run.control.self_check()
        run.write("a", b"cut")
        run.journal.failed("a", "No space left on device", stamp(str(run.top / "a"), whole=False))
        run.write("b", b"whole")
        (run.top / "b").rename(run.top / "a")
        assert run.control.flush_uploads().lost == ()


def test_a_checkpoint_of_which_a_file_was_removed_later_is_told(run):
    run.control.self_check()
    for name in ("checkpoint-3/model", "checkpoint-3/trainer_state.json", "checkpoint-6/model"):
        run.write(name)
        run.control.reference(name)
    later = time.time() + 10
    os.utime(run.top / "checkpoint-3", (later, later))
    # Something came and went there, and nothing that was known is missing.
    assert run.control.partially_deleted() == ()
    (run.top / "checkpoint-3" / "model").unlink()
    os.utime(run.top / "checkpoint-3", (later, later))
    assert run.control.partially_deleted() == ("checkpoint-3",)
    assert run.control.partially_deleted("checkpoint-6") == ()


def test_a_directory_of_somebody_elses_is_passed_over_and_ones_own_is_not(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    other, own = tmp_path / "lost+found", tmp_path / "own"
    for place in (other, own):
        place.mkdir(mode=0o700)
    (tmp_path / "a").write_text("data")
    tmp_path.chmod(0o755)
    # From within: nobody may not come there.
    text = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
        f"sys.argv = ['walk', '.']; exec({SCRIPT.read_text()!r})"
    )

    def walked() -> subprocess.CompletedProcess:
        words = [sys.executable, "-I", "-S", "-c", text]
        return subprocess.run(words, capture_output=True, check=False, timeout=30, cwd=tmp_path)

    own.chmod(0o755)
    found = walked()
    assert found.returncode == 0, found.stderr
    assert b"\0a\0f\0" in found.stdout
    own.chmod(0)
    os.chown(own, 65534, 65534)
    refused = walked()
    assert refused.returncode == 1
    assert b"Permission denied" in refused.stderr


def test_a_file_that_is_gone_or_silent_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(bounded_read.chunks(str(tmp_path / "gone"), 30.0))
    os.mkfifo(tmp_path / "silent")
    with pytest.raises(TimeoutError, match="no answer"):
        list(bounded_read.chunks(str(tmp_path / "silent"), 0.2))
    (tmp_path / "large").write_bytes(bytes(3_000_000))
    assert sum(map(len, bounded_read.chunks(str(tmp_path / "large"), 30.0))) == 3_000_000
