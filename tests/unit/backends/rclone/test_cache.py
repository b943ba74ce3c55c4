"""rclone's cache on disk: read without rclone, and mended after one that was killed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.backends.base import WrittenFile
from mountkit.backends.rclone.cache import RcloneCache, _seconds
from mountkit.errors import MountUnavailableError
from mountkit.linux.sparse_files import has_hole
from mountkit.names import SAME_SAVE_SECONDS


class Cache(RcloneCache):
    """One that a test can fill."""

    def put(self, path: str, data: bytes | None, meta: bytes | dict[str, Any] | None) -> None:
        if data is not None:
            (self.data / path).parent.mkdir(parents=True, exist_ok=True)
            (self.data / path).write_bytes(data)
        if meta is not None:
            (self.meta / path).parent.mkdir(parents=True, exist_ok=True)
            text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
            (self.meta / path).write_bytes(text)


def info(size: int, *, dirty: bool = False, ranges: Any = ...) -> dict[str, Any]:
    whole = [{"Pos": 0, "Size": size}] if size else None
    return {
        "ModTime": "2024-05-06T07:08:09.5+02:00",
        "Size": size,
        "Rs": whole if ranges is ... else ranges,
        "Dirty": dirty,
    }


def compressed(descriptor: int) -> SimpleNamespace:
    """What ZFS says of a file that it has compressed."""
    return SimpleNamespace(st_size=os.fstat(descriptor).st_size, st_blocks=1)


def refuse(*_: int) -> int:
    raise OSError(errno.EINVAL, "Invalid argument")


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "vfs", tmp_path / "vfsMeta")


BROKEN = [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"text"']


class TestCache:
    def test_there_is_none_yet(self, cache, tmp_path):
        assert cache.files() == ()
        assert cache.local("x") is None
        cache.purge()
        assert cache.repair_cache(tmp_path / "aside") == ()

    def test_what_was_written_is_listed(self, cache):
        cache.put("run/checkpoint-3/b ü", b"12345", info(5, dirty=True))
        cache.put("run/checkpoint-3/a", b"1", info(1))
        cache.put("run/checkpoint-30/c", b"1", info(1))
        modified = datetime(2024, 5, 6, 5, 8, 9, 500000, UTC).timestamp()
        expected = (
            WrittenFile("run/checkpoint-3/a", 1, modified, dirty=False),
            WrittenFile("run/checkpoint-3/b ü", 5, modified, dirty=True),
        )
        assert cache.files("run/checkpoint-3") == expected
        assert cache.files()[:2] == expected
        assert len(cache.files()) == 3

    @pytest.mark.fault(12)
    @pytest.mark.parametrize("meta", [b"", b'{"Size": 5', b"[]"])
    def test_a_record_that_cannot_be_read_counts_as_not_uploaded(self, cache, meta):
        cache.put("x", b"12345", meta)
        (file,) = cache.files()
        assert file.path == "x"
        assert file.dirty
        assert cache.local("x") is None

    @pytest.mark.parametrize(
        ("changes", "data", "listed"),
        [
            ({}, None, False),
            ({}, b"", True),
            ({"Dirty": True}, None, True),
            ({"Fingerprint": "5,2024"}, None, True),
            ({"Rs": [{"Pos": 0, "Size": 5}]}, None, True),
        ],
    )
    def test_one_of_no_bytes_is_what_a_close_after_the_removal_leaves(
        self, cache, changes, data, listed
    ):
        cache.put("x", data, info(5, ranges=None) | {"Fingerprint": ""} | changes)
        assert [file.path for file in cache.files()] == (["x"] if listed else [])

    @pytest.mark.fault(44)
    @pytest.mark.parametrize(
        ("changes", "data", "gone", "size"),
        [
            # A temporary file: removed while it was open, and noted again when it was closed.
            ({}, None, True, 5),
            ({"Rs": [{"Pos": 3, "Size": 2}]}, None, True, 5),
            ({"Dirty": True}, None, False, 5),
            ({"Fingerprint": "5,2024"}, None, False, 5),
            # There were no bytes that anybody could have taken away.
            ({"Fingerprint": "0,2024", "Size": 0}, None, True, 0),
            ({"Dirty": True, "Size": 0}, None, False, 0),
            ({}, b"12345", False, 5),
            ({}, b"123", False, 5),
            # Another one in its place.
            ({"Fingerprint": "3,2024,0123"}, b"123", False, 3),
            ({"Fingerprint": "7,2024,0123"}, b"1234567", False, 7),
            ({"Fingerprint": "0,2024,0123"}, b"", False, 0),
            ({"Fingerprint": "5,2024,0123"}, b"123", False, 5),
            ({"Fingerprint": "4,2024,0123"}, b"123", False, 5),
            ({"Fingerprint": "3,2024,0123", "Dirty": True}, b"123", False, 5),
        ],
    )
    def test_what_was_removed_or_replaced_while_it_was_open(self, cache, changes, data, gone, size):
        cache.put("x", data, info(5) | {"Fingerprint": ""} | changes)
        (file,) = cache.files()
        assert (file.gone, file.size) == (gone, size)
        # Whole by its record, or by what was uploaded; nothing is compared with another's bytes.
        whole = data is not None and len(data) == size
        assert (cache.local("x") is not None) == whole

    def test_what_was_fetched_in_part_has_a_hole_and_is_compared_with_nothing(self, cache):
        size = 1 << 20
        ranges = [{"Pos": 0, "Size": 4096}]
        cache.put("x", b"1" * 4096, info(size, ranges=ranges) | {"Fingerprint": f"{size},2024,01"})
        os.truncate(cache.data / "x", size)
        assert cache.comparable("x") is None

    @pytest.mark.fault(44)
    @pytest.mark.parametrize("dirty", [True, False])
    def test_with_the_ranges_of_the_file_that_it_replaced_it_is_compared(self, cache, dirty):
        ranges = [{"Pos": 0, "Size": 2}]
        cache.put("x", b"12345", info(5, ranges=ranges, dirty=dirty))
        assert cache.comparable("x") == cache.data / "x"
        # And nothing more: of bytes that are only compared none is uploaded.
        assert cache.local("x") is None

    def test_what_is_not_there_is_compared_with_nothing(self, cache):
        cache.put("x", None, info(5))
        assert cache.comparable("x") is None
        assert cache.comparable("y") is None

    def test_a_record_that_is_being_rewritten_is_read_again(self, cache):
        cache.put("x", b"12345", b"")
        (cache.meta / "x").unlink()
        os.mkfifo(cache.meta / "x")

        read = threading.Event()

        def rewrite():
            text = ""
            # Again and again: one reader may take in more than one of them, or be gone too soon.
            while not read.is_set():
                with contextlib.suppress(BrokenPipeError):
                    (cache.meta / "x").write_text(text)
                    text = json.dumps(info(5))
                time.sleep(0.01)

        threading.Thread(target=rewrite, daemon=True).start()
        (file,) = cache.files()
        read.set()
        assert (file.size, file.dirty) == (5, False)

    @pytest.mark.parametrize("tail", ["false\n}\n", "e\n}\n", "}", " ", json.dumps(info(7))])
    def test_behind_a_record_the_end_of_a_longer_one_says_nothing(self, cache, tail):
        cache.put("x", b"12345", json.dumps(info(5)).encode() + tail.encode())
        (file,) = cache.files()
        assert (file.size, file.dirty) == (5, False)
        assert cache.local("x") is not None

    @pytest.mark.parametrize(
        ("data", "meta", "whole"),
        [
            (b"12345", info(5), True),
            (b"12345", info(5, dirty=True), True),
            (b"", info(0), True),
            (b"12345", info(5, ranges=[{"Pos": 0, "Size": 4}]), False),
            (b"12345", info(5, ranges=[{"Pos": 1, "Size": 4}]), False),
            (b"12345", info(5, ranges=None), False),
            (b"1234", info(5), False),
            (b"123456", info(5), False),
            (None, info(5), False),
            (b"12345", None, False),
        ],
    )
    def test_a_local_file_has_all_the_bytes_or_is_none(self, cache, data, meta, whole):
        cache.put("d/x", data, meta)
        found = cache.local("d/x")
        assert found == (cache.data / "d" / "x" if whole else None)

    def test_purge_keeps_what_waits(self, cache):
        cache.put("d/sent", b"1", info(1))
        cache.put("d/waits", b"2", info(1, dirty=True))
        cache.put("d/evicted", None, info(1))
        cache.put("d/broken", b"3", b"")
        cache.purge()
        kept = {"broken", "waits"}
        for tree in (cache.data, cache.meta):
            assert {path.name for path in (tree / "d").iterdir()} == kept

    @pytest.mark.fault(15)
    @pytest.mark.parametrize("below", ["", "d"])
    def test_one_that_cannot_be_listed_is_not_empty(self, cache, monkeypatch, below):
        cache.put("d/x", b"1", info(1, dirty=True))
        scan = os.scandir

        def refuse(path):
            if str(path) == str(cache.meta / below):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(MountUnavailableError, match=r"cannot be read: .*Permission denied"):
            cache.files()

    def test_a_folder_that_goes_while_it_is_listed_is_gone(self, cache, monkeypatch):
        cache.put("d/x", b"1", info(1))
        cache.put("e/x", b"1", info(1))
        scan = os.scandir

        def remove(path):
            if str(path) == str(cache.meta / "d"):
                shutil.rmtree(path)
            return scan(path)

        monkeypatch.setattr(os, "scandir", remove)
        assert [file.path for file in cache.files()] == ["e/x"]

    def test_a_record_with_a_time_that_is_none(self, cache):
        cache.put("x", b"1", {**info(1), "ModTime": None})
        assert cache.files()[0].modified == 0.0


@pytest.mark.fault(12)
class TestAudit:
    @pytest.mark.parametrize("meta", [None, *BROKEN])
    def test_a_lost_record_is_written_anew_and_the_file_uploaded(self, cache, tmp_path, meta):
        cache.put("d/x", b"12345", meta)
        cache.put("d/empty", b"", meta)
        assert cache.repair_cache(tmp_path / "aside") == ()
        assert cache.local("d/x") == cache.data / "d" / "x"
        assert cache.local("d/empty") == cache.data / "d" / "empty"
        assert [(file.path, file.size, file.dirty) for file in cache.files()] == [
            ("d/empty", 0, True),
            ("d/x", 5, True),
        ]
        assert len(list((cache.meta / "d").iterdir())) == 2, "no draft is left"

    @pytest.mark.fault(39)
    @pytest.mark.parametrize("size", [246, 255])
    def test_a_name_may_be_as_long_as_a_name_can_be(self, cache, tmp_path, size):
        path = f"d/{'x' * size}"
        cache.put(path, b"12345", b"")
        assert cache.repair_cache(tmp_path / "aside") == ()
        assert cache.local(path) == cache.data / path
        cache.upload_again([path])
        assert [file.path for file in cache.files()] == [path], "no draft is left"
        assert not [left for left in tmp_path.iterdir() if left.is_file()]

    def test_the_time_of_the_file_is_kept(self, cache, tmp_path):
        cache.put("x", b"12345", b"")
        os.utime(cache.data / "x", (1700000000, 1700000000.25))
        cache.repair_cache(tmp_path / "aside")
        assert cache.files()[0].modified == 1700000000.25

    @pytest.mark.fault(11)
    @pytest.mark.parametrize("meta", [b"", None, info(1 << 20, dirty=True, ranges=[])])
    def test_a_file_with_holes_is_set_aside(self, cache, tmp_path, meta):
        cache.put("d/torn", b"", meta)
        with (cache.data / "d" / "torn").open("r+b") as stream:
            stream.seek(1 << 20)
            stream.write(b"the end")
        assert cache.repair_cache(tmp_path / "aside") == ("d/torn",)
        assert (tmp_path / "aside" / "d" / "torn").read_bytes().endswith(b"the end")
        assert not (cache.data / "d" / "torn").exists()
        assert cache.files() == ()

    @pytest.mark.parametrize("meta", [b"", info(1, dirty=True)])
    def test_a_whole_file_of_a_file_system_that_compresses_is_not(self, tmp_path, meta):
        compresses = partial(has_hole, fstat=compressed)
        cache = Cache(tmp_path / "vfs", tmp_path / "vfsMeta", compresses)
        data = b"x" * 300_000
        cache.put("d/whole", data, meta)
        assert cache.repair_cache(tmp_path / "aside") == ()
        assert cache.local("d/whole") == cache.data / "d" / "whole"
        # Nor is it kept from being compared, whatever its record says of its ranges.
        cache.put("d/read", data, info(len(data), ranges=[{"Pos": 0, "Size": 1}]))
        assert cache.comparable("d/read") == cache.data / "d" / "read"

    def test_a_file_system_that_cannot_tell_of_holes_leaves_nothing_unread(self, tmp_path):
        cannot = partial(has_hole, lseek=refuse)
        cache = Cache(tmp_path / "vfs", tmp_path / "vfsMeta", cannot)
        cache.put("d/read", b"12345", info(5, ranges=[{"Pos": 0, "Size": 1}]))
        assert cache.comparable("d/read") == cache.data / "d" / "read"

    @pytest.mark.fault(11)
    @pytest.mark.parametrize("dirty", [True, False])
    def test_one_that_lost_its_end_with_the_machine_is_set_aside(self, cache, tmp_path, dirty):
        cache.put("d/short", b"12345", info(9, dirty=dirty))
        assert cache.repair_cache(tmp_path / "aside") == (("d/short",) if dirty else ())
        assert (tmp_path / "aside" / "d" / "short").exists() == dirty

    @pytest.mark.parametrize(
        ("ranges", "size", "quarantine"),
        [
            ([{"Pos": 3, "Size": 2}], 5, True),
            (None, 3, True),
            ([{"Pos": 0, "Size": 2}], 3, True),
            ([{"Pos": 0, "Size": 3}], 3, False),
            # It was emptied before it was written to.
            (None, 0, False),
        ],
    )
    def test_one_whose_beginning_was_never_fetched_is_set_aside(
        self, cache, tmp_path, ranges, size, quarantine
    ):
        record = info(size, dirty=True, ranges=ranges) | {"Fingerprint": "3,2024,0123"}
        cache.put("log", b"\0\0\0new", record)
        assert cache.repair_cache(tmp_path / "aside") == (("log",) if quarantine else ())

    def test_a_rename_that_broke_off_leaves_no_file_that_is_missed(self, cache, tmp_path):
        cache.put("d/.tmpAbC", None, info(0, dirty=True))
        cache.put("d/model", b"12345", None)
        cache.put("d/just created", b"", None)
        assert cache.repair_cache(tmp_path / "aside") == ()
        assert [file.path for file in cache.files()] == ["d/just created", "d/model"]
        assert cache.local("d/model") == cache.data / "d" / "model"

    @pytest.mark.parametrize(
        ("alone", "nameless"),
        [
            (["d/taken"], []),
            (["d/taken"], ["e/model"]),
            (["d/taken"], ["d/model", "d/optimizer"]),
            (["d/taken", "d/too"], ["d/model"]),
        ],
    )
    def test_bytes_that_were_taken_away_are_missed(self, cache, tmp_path, alone, nameless):
        for path in alone:
            cache.put(path, None, info(5, dirty=True))
        for path in nameless:
            cache.put(path, b"12345", None)
        cache.repair_cache(tmp_path / "aside")
        assert [file.path for file in cache.files()] == sorted([*alone, *nameless])

    def test_what_is_in_order_is_not_touched(self, cache, tmp_path):
        cache.put("waits", b"12345", info(5, dirty=True))
        cache.put("sent", b"12345", info(5))
        cache.put("partly read", b"12345", info(5, ranges=[{"Pos": 0, "Size": 2}]))
        before = [(cache.meta / name).read_bytes() for name in ("waits", "sent", "partly read")]
        assert cache.repair_cache(tmp_path / "aside") == ()
        after = [(cache.meta / name).read_bytes() for name in ("waits", "sent", "partly read")]
        assert after == before
        assert not (tmp_path / "aside").exists()


ZONES = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


class TestTimes:
    """As Go prints them: RFC 3339 with up to nine digits, none at the end being zero."""

    @given(
        st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=ZONES),
        st.integers(0, 999_999_999),
    )
    def test_gos_times_are_read(self, moment, nanoseconds):
        whole = moment.replace(microsecond=0)
        fraction = f".{nanoseconds:09}".rstrip("0").rstrip(".")
        offset = whole.strftime("%z")
        zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
        text = f"{whole:%Y-%m-%dT%H:%M:%S}{fraction}{zone}"
        expected = whole.timestamp() + nanoseconds / 1e9
        assert _seconds(text) == pytest.approx(expected, abs=2e-6)

    @pytest.mark.parametrize("text", ["", "yesterday", "2024", "2024-13-01T00:00:00Z"])
    def test_what_is_no_time_is_the_beginning(self, text):
        assert _seconds(text) == 0.0

    @given(st.text(st.sampled_from("0123456789-:T.Z+ "), max_size=40))
    def test_no_text_makes_it_fail(self, text):
        assert isinstance(_seconds(text), float)


class TestLessened:
    """Whether something was removed from a checkpoint after its state was written."""

    def saved(self, cache: RcloneCache, top: str = "checkpoint-3") -> Path:
        place = cache.data / top
        (place / "rank 0").mkdir(parents=True)
        for name in ("model.safetensors", "rank 0/rng_state.pth", "trainer_state.json"):
            (place / name).write_bytes(b"x")
        return place

    def later(self, folder: Path, seconds: float) -> None:
        """As if an entry of it had been removed so long after its files were written."""
        at = time.time() + seconds
        os.utime(folder, (at, at))

    def test_not_one_that_was_only_saved(self, cache):
        place = self.saved(cache)
        assert cache.partially_deleted() == ()
        self.later(place, SAME_SAVE_SECONDS / 2)
        assert cache.partially_deleted() == ()

    @pytest.mark.parametrize("folder", ["", "rank 0"])
    def test_nor_one_to_which_a_file_was_added_later(self, cache, folder):
        place = self.saved(cache)
        added = place / folder / "eval_results.json"
        added.write_bytes(b"{}")
        for path in (added, added.parent):
            self.later(path, SAME_SAVE_SECONDS + 5)
        assert cache.partially_deleted() == ()

    @pytest.mark.fault(7, 22)
    @pytest.mark.parametrize("folder", ["", "rank 0"])
    @pytest.mark.parametrize("below", ["", "out/checkpoint-3"])
    def test_one_of_which_a_file_is_gone(self, cache, folder, below):
        self.saved(cache, "out/checkpoint-20")
        place = self.saved(cache, "out/checkpoint-3")
        self.later(place / folder, SAME_SAVE_SECONDS + 5)
        assert cache.partially_deleted(below) == ("out/checkpoint-3",)

    @pytest.mark.fault(7, 22)
    @pytest.mark.parametrize("folder", ["", "rank 0"])
    def test_nor_does_whoever_reads_it_hide_that(self, cache, folder):
        place = self.saved(cache)
        for path in (*place.rglob("*"), place):
            # The change of its inode is from now, as when rclone sets its time after a read.
            self.later(path, -3600)
        assert cache.partially_deleted() == ()
        self.later(place / folder, -1800)
        assert cache.partially_deleted() == ("checkpoint-3",)

    def test_one_without_its_state_is_none_anyway(self, cache):
        place = self.saved(cache)
        (place / "trainer_state.json").unlink()
        self.later(place, 60)
        assert cache.partially_deleted() == ()

    def test_a_cache_that_cannot_be_read_is_an_error(self, cache, monkeypatch):
        self.saved(cache)

        def broken(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "walk", broken)
        with pytest.raises(MountUnavailableError, match="cannot be read"):
            cache.partially_deleted()


SIZES = st.integers(0, 6)
RECORDS = st.fixed_dictionaries(
    {
        "ModTime": st.just("2024-05-06T07:08:09Z"),
        "Size": SIZES,
        "Rs": st.none()
        | st.lists(st.fixed_dictionaries({"Pos": SIZES, "Size": SIZES}), min_size=1, max_size=2),
        "Fingerprint": st.just("") | SIZES.map(lambda size: f"{size},2024-05-06 07:08:09,0123"),
        "Dirty": st.booleans(),
    }
)


@pytest.mark.fault(12, 44)
@given(RECORDS, st.none() | st.binary(max_size=6))
def test_no_record_makes_lost_bytes_look_removed_or_whole(record, data):
    with tempfile.TemporaryDirectory() as place:
        cache = Cache(Path(place, "vfs"), Path(place, "vfsMeta"))
        cache.put("x", data, record)
        found, local = cache.files(), cache.local("x")
    removed = not found or found[0].gone
    empty = record["Size"] == 0 and record["Fingerprint"].startswith("0,")
    if record["Dirty"] or (record["Fingerprint"] and not empty) or data is not None:
        assert not removed
    if local is not None:
        uploaded = record["Fingerprint"].partition(",")[0]
        covered = record["Rs"] == [{"Pos": 0, "Size": len(data)}] or not data
        assert (record["Size"] == len(data) and covered) or (
            not record["Dirty"] and uploaded == str(len(data)) != str(record["Size"])
        )
