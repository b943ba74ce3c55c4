"""What was written through a Mountpoint mount, by its store, its log and our writers' journal."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from fakes import Bucket, FakeStore

from mountkit.attestation import Attestation
from mountkit.backends.mountpoint_control import MountpointControl
from mountkit.checksums import digest_bytes
from mountkit.process import ProcessIdentity
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state import SERVING, MountRecord, StateDirectory, now
from mountkit.written import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mountkit.store import ObjectInfo

SOURCE = Source("s3", "bucket", "run")
HOUR = 3600.0


class DatedStore(FakeStore):
    """A store whose objects have times, in whole seconds of its own clock."""

    def __init__(self, bucket: Bucket, dates: dict[str, float]) -> None:
        super().__init__(bucket, SOURCE)
        self.dates = dates
        self.etags: dict[str, str] = {}
        self.checksums = True

    def list(self, prefix: str = "", *, markers: bool = False) -> Iterator[ObjectInfo]:
        for info in super().list(prefix, markers=markers):
            at = datetime.fromtimestamp(int(self.dates[info.path]), timezone.utc)
            yield replace(info, modified=at, etag=self.etags.get(info.path, info.etag))

    def attest(self, path: str) -> Attestation | None:
        found = super().attest(path)
        return found if found is None or self.checksums else Attestation(found.size, found.etag)


@dataclass
class Place:
    """A mount made just now; the store's clock is an hour ahead."""

    folder: Path
    ahead: float = HOUR
    began: float = field(default_factory=time.time)
    shown: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bucket = Bucket()
        self.store = DatedStore(self.bucket, {})
        self.journal = Journal(self.folder)
        spec = MountSpec(SOURCE, str(self.folder / "mnt"), "mountpoint", StoreOptions(), "/cache")
        self.control = MountpointControl(spec, self.folder, self.store, lambda _: self.shown)
        me = ProcessIdentity.mine()
        StateDirectory(self.folder).write(
            MountRecord(spec, SERVING, now(), me, began=self.began, store_ahead=self.ahead)
        )

    def arrive(self, path: str, data: bytes = b"data", after: float = 5.0) -> None:
        """An object is there, ``after`` seconds after the mount was made."""
        self.bucket.objects[f"run/{path}"] = data
        self.store.dates[path] = self.began + self.ahead + after
        self.shown.append(path)

    def log(self, path: str, after: float, reason: str = "Access Denied") -> None:
        at = datetime.fromtimestamp(self.began + after, timezone.utc)
        stamp = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        line = (
            f'{stamp}  WARN ThreadId(10) put_object{{id=9 bucket="bucket" key="run/{path}"}}: '
            f'client: duration=1ms error=ServiceError(Put("{reason}")) meta request failed\n'
        )
        with (self.folder / "daemon.log").open("a") as stream:
            stream.write(line)


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


def paths(place: Place, below: str = "") -> dict[str, bool]:
    return {file.path: file.dirty for file in place.control.files(below)}


class TestFiles:
    def test_what_the_store_got_since_the_mount_was_made(self, place):
        place.arrive("checkpoint-1/a", after=-100)
        place.arrive("checkpoint-2/a", after=0)
        place.arrive("checkpoint-2/b", after=50)
        assert paths(place) == {"checkpoint-2/a": False, "checkpoint-2/b": False}
        assert paths(place, "checkpoint-2") == paths(place)
        assert paths(place, "checkpoint-1") == {}

    @pytest.mark.parametrize("second", [0.0, 0.3, 0.999])
    def test_a_whole_second_never_hides_a_file(self, tmp_path, second):
        place = Place(tmp_path, began=1_700_000_000.0 + second)
        place.arrive("x", after=0.0)
        (file,) = place.control.files()
        assert file.modified >= place.began

    def test_an_object_written_again_has_another_stamp(self, place):
        place.arrive("x", b"one")
        (before,) = place.control.files()
        place.arrive("x", b"two")
        (after,) = place.control.files()
        assert before.stamp != after.stamp

    def test_what_mountkit_writes_itself_is_nothing_that_was_saved(self, place):
        place.arrive("checkpoint-1/mountkit-manifest.json")
        place.arrive(".mountkit-probe-123")
        assert paths(place) == {}

    def test_what_the_mount_shows_and_the_store_has_not_is_being_written(self, place):
        place.arrive("a")
        place.shown.append("b")
        assert paths(place) == {"a": False, "b": True}

    def test_no_record_no_files(self, place):
        place.arrive("a")
        StateDirectory(place.folder).clear()
        assert paths(place) == {}


@pytest.mark.fault(2, 14)
class TestLost:
    def test_an_upload_that_failed_by_the_daemons_log_is_lost(self, place):
        place.log("checkpoint-1/tokenizer.json", after=3)
        assert paths(place) == {"checkpoint-1/tokenizer.json": True}
        ((path, reason),) = place.control.push().lost
        assert path == "checkpoint-1/tokenizer.json"
        assert "Access Denied" in reason

    def test_one_that_came_through_after_that_is_not(self, place):
        place.log("x", after=3)
        place.arrive("x", after=6)
        assert paths(place) == {"x": False}
        assert place.control.push().lost == ()

    def test_an_older_object_under_that_name_does_not_count(self, place):
        place.arrive("x", after=1)
        place.log("x", after=30)
        assert paths(place) == {"x": True}
        assert place.control.reference("x") is None

    def test_what_failed_before_this_mount_was_made_is_of_no_concern(self, place):
        place.log("x", after=-30)
        assert paths(place) == {}

    def test_a_rename_that_the_store_did_not_do_leaves_nothing_proven(self, place):
        place.arrive("model.safetensors", b"")
        place.store.etags["model.safetensors"] = "d41d8cd98f00b204e9800998ecf8427e"
        place.arrive("really-empty", b"")
        place.store.etags["really-empty"] = "59adb24ef3cdbe0297f05b395827453f-1"
        place.control.files()
        ((path, reason),) = place.control.push().lost
        assert path == "model.safetensors"
        assert "does not rename" in reason

    def test_a_write_that_failed_by_our_own_word(self, place):
        place.journal.begin("x")
        place.journal.failed("x", "no space left")
        place.control.files()
        assert place.control.push().lost == (("x", "no space left"),)

    def test_a_write_whose_writer_died(self, place):
        place.journal.begin("x")
        place.control.files()
        ((path, reason),) = place.control.push().lost
        assert path == "x"
        assert "when its writer ended" in reason

    def test_what_failed_is_forgotten_when_the_directory_is_written_anew(self, place):
        place.log("checkpoint-1/x", after=-0.1 + time.time() - place.began)
        place.journal.begin("checkpoint-1/y")
        place.journal.begin("checkpoint-10/z")
        StateDirectory(place.folder).write_anew("checkpoint-1")
        assert paths(place) == {"checkpoint-10/z": True}


class TestReference:
    def look(self, place: Place, path: str):
        place.control.files()
        return place.control.reference(path)

    def test_of_what_our_writers_wrote_it_is_their_own(self, place):
        place.arrive("x", b"stored", after=0)
        place.journal.begin("x")
        place.journal.done("x", 7, "AAAAAAAAAAA=")
        found = self.look(place, "x")
        assert (found.taken, found.digest.size) == ("write", 7)
        assert found.digest.values == {"crc64nvme": "AAAAAAAAAAA="}

    def test_of_what_somebody_wrote_after_them_it_is_the_stores(self, place):
        place.journal.begin("x")
        place.journal.done("x", 7, "AAAAAAAAAAA=")
        place.arrive("x", b"stored", after=60)
        found = self.look(place, "x")
        assert found.taken == "mount"
        assert found.digest.values["crc64nvme"] == digest_bytes(b"stored").values["crc64nvme"]

    def test_the_checksum_the_store_confirmed_saves_reading(self, place):
        place.arrive("x", b"stored")
        assert self.look(place, "x").digest.size == 6
        assert place.bucket.asked("read") == []

    def test_without_one_the_bytes_are_read_back(self, place):
        place.store.checksums = False
        place.arrive("x", b"stored")
        found = self.look(place, "x")
        assert found.digest.values["crc64nvme"] == digest_bytes(b"stored").values["crc64nvme"]
        assert place.bucket.asked("read") == ["run/x"]

    def test_of_an_object_from_before_there_is_none(self, place):
        place.arrive("x", after=-60)
        assert self.look(place, "x") is None

    def test_what_is_not_there_is_an_error_that_says_so(self, place):
        with pytest.raises(FileNotFoundError, match="the store does not have it"):
            self.look(place, "x")


def test_the_reason_an_operation_failed(place):
    place.log("checkpoint-1/model.safetensors", after=1, reason="the key is disabled")
    assert "the key is disabled" in place.control.explain("checkpoint-1/model.safetensors")
    assert place.control.explain("checkpoint-2/model.safetensors") == ""


def test_the_record_is_plain_json(place):
    content = json.loads((place.folder / "record.json").read_text())
    assert content["store_ahead"] == HOUR
