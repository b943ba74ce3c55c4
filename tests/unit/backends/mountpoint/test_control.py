"""What was written through a Mountpoint mount, by its log, its store and our writers' journal."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mountkit.backends.mountpoint import control
from mountkit.backends.mountpoint.control import MountpointControl
from mountkit.errors import MountUnavailableError
from mountkit.linux.process import ProcessIdentity
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state.mount_directory import StateDirectory
from mountkit.state.record import SERVING, MountRecord
from mountkit.state.write_journal import UNFINISHED, Journal
from mountkit.store.base import Attestation, ObjectChangedError, ObjectMissingError
from mountkit.store.checksums import digest_bytes
from support.fakes import Bucket, FakeStore

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = Source("s3", "bucket", "run")
PUT = 'put_object{{id=9 bucket="bucket" key="run/{path}"}}: client'


class UploadedStore(FakeStore):
    """A store with ETags such as Mountpoint's uploads get."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket, SOURCE)
        self.checksums = True

    def stat(self, path: str) -> Attestation | None:
        found = super().stat(path)
        if found is None:
            return None
        return Attestation(found.size, f"{found.tag}-1", found.checksums if self.checksums else ())


class Place:
    """A mount whose daemon logs what the test does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bucket = Bucket()
        self.store = UploadedStore(self.bucket)
        self.journal = Journal(folder)
        self.state = StateDirectory(folder)
        target = str(folder / "mnt")
        self.spec = MountSpec(SOURCE, target, "mountpoint", StoreOptions(), "/cache")
        self.control = MountpointControl(self.spec, folder, self.store)

    def log(self, text: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        with self.state.log.open("a") as stream:
            stream.write(f"{stamp} DEBUG ThreadId(10) {text}\n")

    def begin(self, path: str) -> None:
        self.log(f"{PUT.format(path=path)}::put_object: new request")

    def save(self, path: str, data: bytes = b"data") -> None:
        self.begin(path)
        self.bucket.objects[f"run/{path}"] = data
        etag = "etag-" + digest_bytes(data).values["crc64nvme"] + "-1"
        self.log(
            f'flush{{req=1}}: handles: put succeeded etag="\\"{etag}\\"" key=run/{path} '
            f"(bucket: bucket) size={len(data)}"
        )

    def fail(self, path: str, reason: str = "Access Denied") -> None:
        self.begin(path)
        self.log(f'{PUT.format(path=path)}: error=Service("{reason}") meta request failed')

    def refuse(self, name: str) -> None:
        self.log(
            f'rename{{req=80 parent=3 name="{name}" newparent=3 newname="model" pid=1}}: '
            "fuse: rename failed with errno 1: cannot be renamed while being written"
        )

    def remove(self, path: str) -> None:
        self.log(
            f"superblock: unlink on remote file will delete key run/{path} parent=1 "
            f'name="{path.rpartition("/")[2]}"'
        )
        self.bucket.objects.pop(f"run/{path}", None)

    def files(self, below: str = "") -> dict[str, bool]:
        return {file.path: file.dirty for file in self.control.files(below)}

    def lost(self) -> dict[str, str]:
        return dict(self.control.flush_uploads().lost)

    def reference(self, path: str):
        self.control.files()
        return self.control.reference(path)


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


class TestFiles:
    def test_what_was_uploaded_and_what_is_under_way(self, place):
        place.save("checkpoint-1/a")
        place.begin("checkpoint-10/b")
        assert place.files() == {"checkpoint-1/a": False, "checkpoint-10/b": True}
        assert place.files("checkpoint-1") == {"checkpoint-1/a": False}

    def test_what_others_put_there_is_not_ours(self, place):
        place.bucket.objects["run/checkpoint-1/theirs"] = b"x"
        assert place.files() == {}

    def test_an_object_written_again_has_another_stamp(self, place):
        place.save("x", b"one")
        (before,) = place.control.files()
        place.save("x", b"two")
        (after,) = place.control.files()
        assert before.stamp != after.stamp

    @pytest.mark.fault(37)
    def test_what_an_earlier_run_lost_is_not_there_to_be_lost_again_after_the_end_either(
        self, place
    ):
        place.fail("x")
        record = MountRecord(place.spec, SERVING, "", ProcessIdentity.mine(), began=time.time() + 2)
        # One that was killed has named nothing.
        place.state.write(record)
        assert place.files() == {"x": True}
        assert place.control.lost_before() == ()
        place.state.write(replace(record, named=time.time() + 1))
        assert place.files() == {}
        assert place.control.lost_before() == ("x",)
        place.state.clear()
        assert place.files() == {}

    @pytest.mark.fault(3, 46)
    def test_what_was_lost_once_more_is_told_once_more(self, place):
        place.fail("log")
        began = time.time() + 1
        record = MountRecord(place.spec, SERVING, "", ProcessIdentity.mine(), began=began)
        place.state.write(replace(record, named=began - 0.5))
        assert place.files() == {}
        place.journal._append({"at": began + 1, "path": "log", "problem": "No space left"})
        assert place.lost() == {"log": "No space left"}
        assert place.control.lost_before() == ()

    @pytest.mark.fault(7, 11)
    def test_what_was_cut_off_by_a_kill_is_named_unless_it_is_saved_again(self, place):
        for path in ("checkpoint-10/a", "logs/tensorboard/events", "final/model"):
            place.journal.begin(path)
        place.state.write(
            MountRecord(place.spec, SERVING, "", ProcessIdentity.mine(), began=time.time() + 1)
        )
        assert place.lost() == {"final/model": UNFINISHED}
        assert place.control.lost_before("checkpoint-10") == ("checkpoint-10/a",)

    @pytest.mark.fault(3, 7, 11)
    def test_what_an_earlier_run_lost_is_mended_by_nobodys_word(self, place):
        place.fail("checkpoint-10/a")
        place.fail("checkpoint-10/b")
        place.fail("checkpoint-20/a")
        place.state.write(
            MountRecord(
                place.spec, SERVING, "", ProcessIdentity.mine(),
                began=time.time() + 2, named=time.time() + 1,
            )
        )  # fmt: skip
        assert place.control.lost_before("checkpoint-10") == ("checkpoint-10/a", "checkpoint-10/b")
        # But by being written, or saved anew.
        place.save("checkpoint-10/a")
        assert place.control.lost_before("checkpoint-10") == ("checkpoint-10/b",)
        place.state.bypassed.begin("checkpoint-10")
        assert place.control.lost_before() == ("checkpoint-20/a",)

    @pytest.mark.fault(7, 22)
    def test_a_checkpoint_of_which_a_file_was_removed_later(self, place, monkeypatch):
        monkeypatch.setattr(control, "SAME_SAVE_SECONDS", 0.0)
        for step in (1, 10):
            place.save(f"checkpoint-{step}/model")
            place.save(f"checkpoint-{step}/trainer_state.json")
        assert place.control.partially_deleted() == ()
        place.remove("checkpoint-1/model")
        place.remove("notes")
        assert place.control.partially_deleted() == ("checkpoint-1",)
        assert place.control.partially_deleted("checkpoint-1") == ("checkpoint-1",)
        assert place.control.partially_deleted("checkpoint-10") == ()
        place.save("checkpoint-1/trainer_state.json")
        assert place.control.partially_deleted() == (), "saved anew"
        place.remove("checkpoint-10/trainer_state.json")
        assert place.control.partially_deleted() == (), "without a state it is none anyway"

    def test_what_safetensors_could_not_rename_is_left_over(self, place):
        for path in ("checkpoint-1/.tmpaB3xYz", ".tmpaB3xY0", "checkpoint-1/.tmpkept00"):
            place.save(path)
        for name in (".tmpaB3xYz", ".tmpaB3xY0", "model"):
            place.refuse(name)
        place.save("model")
        assert place.control.leftovers() == (".tmpaB3xY0", "checkpoint-1/.tmpaB3xYz")
        assert place.control.leftovers("checkpoint-1") == ("checkpoint-1/.tmpaB3xYz",)
        assert place.control.leftovers("checkpoint") == ()
        assert place.files() == {"checkpoint-1/.tmpkept00": False, "model": False}
        place.remove(".tmpaB3xY0")
        assert place.control.leftovers() == ("checkpoint-1/.tmpaB3xYz",)

    def test_one_that_did_not_arrive_is_lost_and_not_left_over(self, place):
        place.refuse(".tmpaB3xYz")
        place.fail("checkpoint-1/.tmpaB3xYz")
        assert place.control.leftovers() == ()
        assert place.files() == {"checkpoint-1/.tmpaB3xYz": True}

    def test_when_a_directory_was_emptied(self, place):
        for path in ("a/b/c", "a/d", "ab/e"):
            place.save(path)
        assert place.control.emptied("a") == 0.0
        place.remove("a/b/c")
        first = place.control.emptied("a/b")
        assert first > 0
        assert place.control.emptied("a") == first
        assert place.control.emptied("ab") == place.control.emptied("c") == 0.0
        place.remove("a/d")
        assert place.control.emptied("a") >= first
        place.save("a/b/c")
        assert place.control.emptied("a/b") == 0.0

    def test_what_mountkit_tries_is_nothing_that_was_saved(self, place):
        place.save(".mountkit-probe-123")
        assert place.files() == {}

    @pytest.mark.fault(6)
    def test_nor_where_its_upload_failed(self, place):
        place.fail(".mountkit-probe-123")
        assert place.files() == {}
        assert place.lost() == {}

    def test_a_directory_that_was_removed_past_the_mount(self, place):
        place.save("checkpoint-1/sub/a")
        place.save("checkpoint-10/a")
        place.state.bypassed.note_removed("checkpoint-1")
        assert place.files() == {"checkpoint-10/a": False}
        place.save("checkpoint-1/sub/a")
        assert place.files() == {"checkpoint-1/sub/a": False, "checkpoint-10/a": False}

    def test_no_store_is_needed_to_know(self, place):
        place.save("a")
        place.control.files()
        assert place.bucket.requests == []


@pytest.mark.fault(2, 14)
class TestLost:
    def test_an_upload_that_failed(self, place):
        place.fail("checkpoint-1/tokenizer.json")
        assert place.files() == {"checkpoint-1/tokenizer.json": True}
        assert "Access Denied" in place.lost()["checkpoint-1/tokenizer.json"]

    def test_one_that_came_through_after_that(self, place):
        place.fail("x")
        place.save("x")
        assert place.files() == {"x": False}
        assert place.lost() == {}

    def test_an_older_object_under_that_name_does_not_count(self, place):
        place.save("x")
        place.fail("x")
        assert place.files() == {"x": True}
        assert place.reference("x") is None

    def test_a_write_that_failed_by_our_own_word(self, place):
        place.journal.begin("x")
        place.journal.failed("x", "no space left")
        assert place.lost() == {"x": "no space left"}

    def test_a_write_whose_writer_died(self, place):
        place.journal.begin("x")
        assert "when its writer ended" in place.lost()["x"]

    @pytest.mark.fault(7, 11)
    def test_a_file_that_was_closed_for_a_writer_that_was_killed(self, place):
        place.journal.begin("x")
        place.save("x", b"half")
        assert "when its writer ended" in place.lost()["x"]

    def test_what_failed_is_over_when_the_directory_is_written_anew(self, place):
        place.fail("checkpoint-1/x")
        place.journal.begin("checkpoint-1/y")
        place.journal.begin("checkpoint-10/z")
        place.state.bypassed.begin("checkpoint-1")
        assert place.files() == {"checkpoint-10/z": True}

    def test_the_last_error_is_that_of_the_newest(self, place):
        assert place.control.last_error() is None
        place.fail("checkpoint-1/x")
        place.fail("checkpoint-1/y", "Slow Down")
        at, message = place.control.last_error()
        assert message.startswith("checkpoint-1/y: its upload failed: ")
        assert "Slow Down" in message
        assert abs(at - time.time()) < 60
        assert place.bucket.requests == []

    def test_a_file_that_is_being_written_is_no_error(self, place):
        place.journal.begin("x")
        assert place.control.last_error() is None
        place.journal.failed("x", "no space left")
        assert place.control.last_error()[1] == "x: no space left"

    def test_what_another_daemon_was_uploading(self, place):
        place.begin("x")
        place.log("mountpoint_s3::run: mount-s3 1.24.0")
        assert "the daemon ended" in place.lost()["x"]


class TestReference:
    def test_of_what_our_writers_wrote_it_is_their_own(self, place):
        place.journal.begin("x")
        place.save("x", b"stored")
        place.journal.done("x", 7, "AAAAAAAAAAA=")
        found = place.reference("x")
        assert (found.taken, found.digest.size) == ("write", 7)
        assert found.digest.values == {"crc64nvme": "AAAAAAAAAAA="}

    def test_of_what_somebody_wrote_after_them_it_is_the_stores(self, place):
        place.journal.begin("x")
        place.journal.done("x", 7, "AAAAAAAAAAA=")
        place.save("x", b"stored")
        found = place.reference("x")
        assert found.taken == "mount"
        assert found.digest.values["crc64nvme"] == digest_bytes(b"stored").values["crc64nvme"]

    def test_the_checksum_the_store_confirmed_saves_reading(self, place):
        place.save("x", b"stored")
        assert place.reference("x").digest.size == 6
        assert place.bucket.asked("read") == []

    def test_without_one_the_bytes_are_read_back(self, place):
        place.store.checksums = False
        place.save("x", b"stored")
        found = place.reference("x")
        assert found.digest.values["crc64nvme"] == digest_bytes(b"stored").values["crc64nvme"]
        assert place.bucket.asked("read") == ["run/x"]

    def test_of_what_this_mount_did_not_upload_there_is_none(self, place):
        place.bucket.objects["run/x"] = b"theirs"
        assert place.reference("x") is None

    @pytest.mark.fault(32)
    def test_an_object_that_somebody_replaced_is_not_taken_for_ours(self, place):
        place.save("x", b"ours")
        place.bucket.objects["run/x"] = b"them"
        with pytest.raises(OSError, match="another object than was uploaded"):
            place.reference("x")

    @pytest.mark.fault(32)
    @pytest.mark.parametrize("error", [ObjectChangedError, ObjectMissingError])
    def test_one_that_is_replaced_or_removed_while_it_is_read_back(self, place, error):
        place.store.checksums = False
        place.save("x", b"stored")

        def chunks(*_, **__):
            yield b"st"
            raise error("run/x")

        place.store.chunks = chunks
        with pytest.raises(OSError, match="the store") as caught:
            place.reference("x")
        assert caught.value.filename == "x"

    def test_a_rename_that_the_store_did_not_do(self, place):
        place.save("tmp", b"weights")
        place.log(
            'rename{}: superblock: RenameObject succeeded src_key=ValidKey { key: "run/tmp", '
            'name_offset: 4 } dest_key="run/model.safetensors"'
        )
        place.bucket.objects["run/model.safetensors"] = b""
        assert place.files() == {"model.safetensors": False}
        with pytest.raises(OSError, match="another object than was uploaded"):
            place.reference("model.safetensors")

    def test_what_is_gone_is_an_error_that_says_so(self, place):
        place.save("x")
        place.bucket.objects.clear()
        with pytest.raises(FileNotFoundError, match="the store does not have it"):
            place.reference("x")


@pytest.mark.parametrize("name", ["written.jsonl", "daemon.log", "strays.json"])
def test_what_cannot_be_read_is_named_with_the_mount_and_the_next_command(place, name):
    place.save("x")
    place.control.files()
    (place.folder / name).unlink(missing_ok=True)
    (place.folder / name).mkdir()
    for look in (place.control.files, place.control.flush_uploads, place.control.last_error):
        with pytest.raises(MountUnavailableError) as caught:
            look()
        assert name in caught.value.message
        assert place.spec.target in caught.value.message
        assert str(place.folder) in caught.value.hint


def test_the_reason_an_operation_failed(place):
    place.fail("checkpoint-1/model.safetensors", "the key is disabled")
    assert "the key is disabled" in place.control.explain("checkpoint-1/model.safetensors")
    assert place.control.explain("checkpoint-2/model.safetensors") == ""
