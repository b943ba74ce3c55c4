"""rclone's remote control, against a server that speaks it."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

import pytest

from mountkit.backends.rclone.cache import RcloneCache
from mountkit.backends.rclone.control import (
    NOW,
    PAUSE_SECONDS,
    TIMEOUT_SECONDS,
    Pending,
    RcloneControl,
    _UnixConnection,
)
from mountkit.errors import MountUnavailableError, TimeUpError
from mountkit.state.bypassed_files import BypassedFiles
from mountkit.timing import Deadline
from support.fakes import open_descriptors


def item(name: str, **fields: Any) -> dict[str, Any]:
    plain = {"id": 1, "size": 10, "expiry": 0.5, "tries": 0, "delay": 1.0, "uploading": False}
    return {"name": name, **plain, **fields}


class TestCall:
    def test_parameters_and_answer_are_json(self, daemon, control):
        daemon.reply("core/pid", {"pid": 12})
        assert control.call("core/pid", a=1, b="ü") == {"pid": 12}
        assert daemon.asked == [("core/pid", {"a": 1, "b": "ü"})]

    @pytest.mark.parametrize("body", [b"", b"null", b"[1]"])
    def test_an_answer_without_an_object_is_an_empty_one(self, daemon, control, body):
        daemon.reply("core/pid", body)
        assert control.call("core/pid") == {}

    def test_a_refusal_has_rclones_words(self, daemon, control):
        daemon.reply("vfs/queue", {"error": "no VFS active"}, status=500)
        with pytest.raises(MountUnavailableError, match="refused vfs/queue: no VFS active"):
            control.call("vfs/queue")

    def test_an_answer_that_is_no_json(self, daemon, control):
        daemon.reply("vfs/queue", b"<html>")
        with pytest.raises(MountUnavailableError, match="does not answer vfs/queue"):
            control.call("vfs/queue")

    def test_nobody_listens(self, tmp_path, control):
        with pytest.raises(MountUnavailableError) as caught:
            control.flush_uploads()
        assert str(tmp_path / "rc.sock") in caught.value.message
        assert "mountkit status" in caught.value.hint

    def test_a_refusal_that_is_no_object(self, daemon, control):
        daemon.reply("vfs/queue", ["x"], status=500)
        with pytest.raises(MountUnavailableError):
            control.call("vfs/queue")

    def test_no_socket_is_left_open(self, daemon, control):
        daemon.reply("core/pid", {})
        control.call("core/pid")
        before = len(open_descriptors())
        for _ in range(5):
            control.call("core/pid")
            with pytest.raises(MountUnavailableError):
                control.call("no/such")
        # The server's side of the last connections may still be closing.
        assert len(open_descriptors()) <= before + 2


class TestPush:
    def test_nothing_waits(self, daemon, control):
        daemon.queue()
        assert control.flush_uploads() == Pending()
        assert not daemon.calls("vfs/queue-set-expiry")

    def test_rclone_says_null_for_an_empty_queue(self, daemon, control):
        daemon.reply("vfs/queue", {"queue": None})
        assert control.flush_uploads().waiting == ()

    def test_what_waits_is_started_now(self, daemon, control):
        daemon.queue(
            item("waits", id=7),
            item("uploads", id=8, uploading=True),
            item("is due", id=9, expiry=-0.1),
        )
        daemon.reply("core/stats", {"bytes": 4096})
        pending = control.flush_uploads()
        assert pending.waiting == ("waits", "uploads", "is due")
        assert pending.errors == ()
        assert pending.sent == 4096
        assert daemon.calls("vfs/queue-set-expiry") == [{"id": 7, "expiry": NOW}]
        assert NOW < 0

    def test_one_that_was_uploaded_in_between_is_no_trouble(self, daemon, control):
        daemon.queue(item("gone"))
        daemon.reply("vfs/queue-set-expiry", {"error": "id not found in queue"}, status=500)
        assert control.flush_uploads().waiting == ("gone",)

    def test_another_refusal_is(self, daemon, control):
        daemon.queue(item("x"))
        daemon.reply("vfs/queue-set-expiry", {"error": "denied"}, status=500)
        with pytest.raises(MountUnavailableError, match="denied"):
            control.flush_uploads()

    @pytest.mark.fault(14)
    def test_a_failed_upload_has_its_error(self, daemon, control):
        daemon.queue(item("bad", tries=1, expiry=10), item("unknown", tries=2, expiry=10))
        daemon.reply(
            "core/transferred",
            {
                "transferred": [
                    {"name": "bad", "error": "an older one"},
                    {"name": "other", "error": "not asked for"},
                    {"name": "bad", "error": "AccessDenied: no"},
                    {"name": "unknown", "error": ""},
                ]
            },
        )
        assert control.flush_uploads().errors == (
            ("bad", "AccessDenied: no"),
            ("unknown", "the upload failed"),
        )

    def test_one_that_is_tried_again_right_now_has_not_failed(self, daemon, control):
        daemon.queue(item("again", tries=1, uploading=True))
        assert control.flush_uploads().errors == ()
        assert not daemon.calls("core/transferred")

    @pytest.mark.fault(34)
    @pytest.mark.parametrize(
        ("tries", "expiry", "pause"),
        [
            (0, 60, [NOW]),
            (2, 1, [NOW]),
            (2, 0, []),
            # Of an ill store; and no longer than a proof can wait for.
            (3, PAUSE_SECONDS, []),
            (3, 60, [PAUSE_SECONDS]),
            (9, 300, [PAUSE_SECONDS]),
        ],
    )
    def test_an_ill_store_is_left_a_pause(self, daemon, control, tries, expiry, pause):
        daemon.queue(item("bad", tries=tries, expiry=expiry))
        control.flush_uploads()
        assert [call["expiry"] for call in daemon.calls("vfs/queue-set-expiry")] == pause


def test_refresh_forgets_the_directory(daemon, control):
    daemon.reply("vfs/forget", {"forgotten": []})
    control.invalidate_directory("run/checkpoint-3")
    assert daemon.calls("vfs/forget") == [
        {"dir": "run/checkpoint-3", "file": "run/checkpoint-3/mountkit-manifest.json"}
    ]


class TestConfirm:
    @pytest.mark.fault(13)
    def test_a_cache_in_another_place_is_an_error(self, daemon, control, tmp_path):
        daemon.reply("vfs/stats", {"diskCache": {"path": "/cache/vfs/mountkit{_p9vl}/bucket"}})
        with pytest.raises(MountUnavailableError, match=r"mountkit\{_p9vl\}") as caught:
            control.self_check()
        assert str(tmp_path / "vfs") in caught.value.message
        assert "--option" in caught.value.hint

    def test_one_where_it_is_looked_for_is_fine(self, daemon, control, tmp_path):
        daemon.reply("vfs/stats", {"diskCache": {"path": str(tmp_path / "vfs")}})
        control.self_check()

    @pytest.mark.parametrize("body", [{}, {"diskCache": {}}])
    def test_one_that_is_not_told_is_an_error(self, daemon, control, body):
        daemon.reply("vfs/stats", body)
        with pytest.raises(MountUnavailableError):
            control.self_check()


def test_the_cache_is_asked_without_the_daemon(control, tmp_path):
    for tree, text in (("vfs", "1"), ("vfsMeta", '{"Size": 1, "Rs": [{"Pos": 0, "Size": 1}]}')):
        (tmp_path / tree / "d").mkdir(parents=True)
        (tmp_path / tree / "d" / "x").write_text(text)
    assert [file.path for file in control.files("d")] == ["d/x"]
    assert control.files("e") == ()
    reference = control.reference("d/x")
    assert reference is not None
    assert reference.local == tmp_path / "vfs" / "d" / "x"
    assert control.repair_cache(tmp_path / "aside") == ()
    control.purge()
    assert control.reference("d/x") is not None, "it is not said to be uploaded"


class TestDeadline:
    def timeouts(self, tmp_path, monkeypatch, deadline) -> list[float]:
        found = []

        def connect(_, __, timeout):
            found.append(timeout)
            raise OSError("away")

        monkeypatch.setattr(_UnixConnection, "__init__", connect)
        cache = RcloneCache(tmp_path / "vfs", tmp_path / "vfsMeta")
        control = RcloneControl(tmp_path / "rc.sock", cache, deadline)
        for seconds in (1000.0, 12.0, 0.0):
            deadline.set(seconds)
            with pytest.raises(OSError, match="away"):
                control.call("core/stats")
        return found

    def test_a_daemon_that_does_not_answer_takes_but_a_part_of_it(self, tmp_path, monkeypatch):
        far, near, over = self.timeouts(tmp_path, monkeypatch, Deadline())
        assert far == TIMEOUT_SECONDS
        assert 1.0 <= near <= 3.0
        assert over == 1.0

    def test_a_file_is_not_hashed_to_its_end(self, tmp_path):
        for tree, text in (("vfs", "1"), ("vfsMeta", '{"Size": 1, "Rs": [{"Pos": 0, "Size": 1}]}')):
            (tmp_path / tree).mkdir()
            (tmp_path / tree / "x").write_text(text)
        deadline = Deadline()
        cache = RcloneCache(tmp_path / "vfs", tmp_path / "vfsMeta")
        control = RcloneControl(tmp_path / "rc.sock", cache, deadline)
        assert control.reference("x") is not None
        deadline.set(0.0)
        with pytest.raises(TimeUpError):
            control.reference("x")


class TestLastError:
    LINES = """\
2024/01/01 00:00:01 NOTICE: Config file not found
2024/01/01 00:00:02 ERROR : checkpoint-1/a: vfs cache: failed to upload try #1: AccessDenied: no
2024/01/01 00:00:03 ERROR : checkpoint-1/ü b: vfs cache: failed to upload try #2: SlowDown: wait
2024/01/01 00:00:04 INFO  : checkpoint-1/c: vfs cache: upload succeeded try #1
"""

    def test_the_last_that_its_log_has_and_when(self, tmp_path, control):
        (tmp_path / "daemon.log").write_text(self.LINES)
        assert control.last_error() == (
            1704067203.0,
            "checkpoint-1/ü b: vfs cache: failed to upload try #2: SlowDown: wait",
        )

    @pytest.mark.parametrize("text", [None, "", "2024/01/01 00:00:01 NOTICE: ERROR : no\n"])
    def test_none(self, tmp_path, control, text):
        if text is not None:
            (tmp_path / "daemon.log").write_text(text)
        assert control.last_error() is None

    def test_a_date_that_is_none_is_no_error(self, tmp_path, control):
        (tmp_path / "daemon.log").write_text("2024/99/99 99:99:99 ERROR : x: y\n")
        assert control.last_error() is None

    def test_a_long_log_is_not_read_to_its_beginning(self, tmp_path, control):
        early = self.LINES + "2024/01/01 00:00:05 NOTICE: x\n" * 10_000
        (tmp_path / "daemon.log").write_text(early)
        assert control.last_error() is None


@pytest.mark.fault(20)
def test_what_was_removed_past_the_mount_is_not_missed(control, tmp_path):
    def put(path: str, *, dirty: bool) -> None:
        record = tmp_path / "vfsMeta" / path
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(
            json.dumps(
                {
                    "ModTime": "2024-05-06T07:08:09Z",
                    "Size": 1,
                    "Rs": [{"Pos": 0, "Size": 1}],
                    "Dirty": dirty,
                }
            )
        )

    # The mount did not show it any more, for somebody had deleted it: so the cache kept it.
    put("checkpoint-4/model", dirty=False)
    put("checkpoint-4/waits", dirty=True)
    put("checkpoint-40/model", dirty=False)
    BypassedFiles(tmp_path).note_removed("checkpoint-4")
    assert [file.path for file in control.files()] == ["checkpoint-4/waits", "checkpoint-40/model"]


@pytest.mark.fault(15)
class TestACacheThatIsTakenAway:
    @pytest.fixture(params=["attributes", "none"])
    def serving(self, tmp_path, daemon, control, request, monkeypatch):
        """A mount that serves; on some file systems there are no attributes."""
        if request.param == "none":

            def refuse(*_):
                raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

            for name in ("setxattr", "getxattr"):
                monkeypatch.setattr(os, name, refuse)
        for name in ("vfs", "vfsMeta"):
            (tmp_path / name).mkdir()
        daemon.reply("vfs/stats", {"diskCache": {"path": str(tmp_path / "vfs")}})
        control.self_check()
        assert control.files() == ()
        return control

    @pytest.mark.parametrize("name", ["vfs", "vfsMeta"])
    def test_is_not_an_empty_one(self, serving, control_of_another, tmp_path, name):
        (tmp_path / name).rmdir()
        for one in (serving, control_of_another):
            with pytest.raises(MountUnavailableError, match=f"taken away.*/{name} is gone"):
                one.files()

    @pytest.fixture
    def control_of_another(self, tmp_path):
        """Another process's: of umount, or of a run that takes the mount over."""
        cache = RcloneCache(tmp_path / "vfs", tmp_path / "vfsMeta")
        return RcloneControl(tmp_path / "rc.sock", cache)

    @pytest.mark.parametrize("name", ["vfs", "vfsMeta"])
    def test_nor_is_one_that_a_daemon_made_anew(self, serving, tmp_path, name):
        # Kept, so that the file system does not give the new one the same number.
        (tmp_path / name).rename(tmp_path / "moved away")
        (tmp_path / name).mkdir()
        with pytest.raises(MountUnavailableError, match=f"/{name} is another one"):
            serving.files()
        serving.self_check()
        with pytest.raises(MountUnavailableError, match="taken away"):
            serving.files()

    def test_the_next_mount_begins_with_what_there_is(self, serving, tmp_path):
        (tmp_path / "vfs").rmdir()
        (tmp_path / "vfs").mkdir()
        serving.reconcile_leftovers(tmp_path / "aside", (), ())
        assert serving.files() == ()
        serving.self_check()
        assert serving.files() == ()

    def test_nobody_misses_one_whose_files_are_all_proven(self, serving, tmp_path):
        serving.purge()
        (tmp_path / "vfs").rmdir()
        (tmp_path / "vfsMeta").rmdir()
        assert serving.files() == ()

    def test_a_note_that_cannot_be_read_tells_nothing_good(self, serving, tmp_path):
        (tmp_path / "cache.json").write_text("{")
        with pytest.raises(MountUnavailableError, match=r"cache\.json cannot be read"):
            serving.files()

    def test_the_number_of_a_directory_is_used_again(self, tmp_path, daemon, control, monkeypatch):
        for name in ("vfs", "vfsMeta"):
            (tmp_path / name).mkdir()
        try:
            os.setxattr(tmp_path / "vfs", "user.mountkit", b"x")
        except OSError:
            pytest.skip("this file system has no attributes")
        daemon.reply("vfs/stats", {"diskCache": {"path": str(tmp_path / "vfs")}})
        control.self_check()
        # The same directory without the attribute, which is what the next one looks like.
        os.removexattr(tmp_path / "vfs", "user.mountkit")
        with pytest.raises(MountUnavailableError, match="/vfs is another one"):
            control.files()
