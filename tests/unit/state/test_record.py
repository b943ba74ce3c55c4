"""The private directory of a mount: what is written is read back, and nobody else can read it."""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.errors import ConfigurationError
from mountkit.linux.process import ProcessIdentity
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state import json_file
from mountkit.state.mount_directory import StateDirectory
from mountkit.state.proof_stats import ProofStats, Proven
from mountkit.state.record import FAILED, RECORD_NAME, REPAIRING, SERVING, MountRecord, now
from mountkit.state.registry import LONGEST_DIRECTORY, State
from support.fakes import astray

TEXT = st.text(max_size=20)
IDENTITIES = st.builds(ProcessIdentity, st.integers(1, 2**22), st.integers(0, 2**62), TEXT)
SPECS = st.builds(
    MountSpec,
    source=st.builds(Source, st.just("s3"), TEXT, TEXT),
    target=TEXT,
    backend=st.just("rclone"),
    store=st.builds(StoreOptions, st.none() | TEXT, st.none() | TEXT, st.none() | TEXT),
    cache_dir=TEXT,
    options=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
)
RECORDS = st.builds(
    MountRecord,
    spec=SPECS,
    state=TEXT,
    since=TEXT,
    supervisor=IDENTITIES,
    daemon=st.none() | IDENTITIES,
    remounts=st.integers(0, 100),
    reason=TEXT,
    began=st.floats(0, 2e9, allow_nan=False),
    store_began=st.floats(0, 2e9, allow_nan=False),
    unproven_before=st.lists(TEXT, max_size=3).map(tuple),
)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def known(tmp_path) -> State:
    return State(tmp_path / "s")


def record_at(target: str) -> MountRecord:
    spec = MountSpec(Source("s3", "b", "p"), target, "rclone", StoreOptions(), "/cache")
    return MountRecord(spec, SERVING, now(), ProcessIdentity.mine())


class TestRecord:
    @given(RECORDS)
    def test_what_is_written_is_read_back(self, tmp_path_factory, record):
        directory = StateDirectory(tmp_path_factory.getbasetemp())
        directory.write(record)
        assert directory.read() == record

    @pytest.mark.fault(37, 38)
    def test_one_of_a_version_that_noted_no_boot_is_read(self, known):
        directory = known.directory("1")
        me = ProcessIdentity.mine()
        directory.write(replace(record_at("/mnt"), daemon=me, device=40))
        written = json.loads((directory.path / RECORD_NAME).read_text())
        for process in ("supervisor", "daemon"):
            del written[process]["boot"]
        json_file.replace(directory.path / RECORD_NAME, written)
        record = directory.read()
        assert record.supervisor.alive()
        assert record.daemon.alive()
        assert record.device == 40

    @pytest.mark.fault(9, 38)
    @pytest.mark.parametrize("daemon", [True, False], ids=["with a daemon", "before there was one"])
    def test_after_a_restart_its_device_is_another_ones(self, known, daemon):
        directory = known.directory("1")
        before = replace(ProcessIdentity.mine(), boot="6f1d2c3e-another-boot")
        record = replace(record_at("/mnt"), supervisor=before, device=40)
        directory.write(replace(record, daemon=before) if daemon else record)
        assert directory.read().device is None
        assert not directory.read().supervisor.alive()
        # Also where it is looked for by whoever takes over what that one left.
        directory.clear(unproven=True)
        assert directory.unfinished().device is None

    def test_a_change_keeps_the_rest_and_takes_the_time(self):
        before = record_at("/mnt")
        after = before.change(REPAIRING, reason="it died")
        assert (after.state, after.reason) == (REPAIRING, "it died")
        assert (after.spec, after.supervisor) == (before.spec, before.supervisor)
        assert datetime.fromisoformat(after.since).tzinfo is not None

    def test_none_before_and_after(self, known):
        directory = known.directory("1")
        assert directory.read() is None
        directory.write(record_at("/mnt"))
        assert directory.read() is not None
        directory.clear()
        assert directory.read() is None

    @pytest.mark.parametrize("unproven", [False, True])
    def test_what_was_proven_is_known_to_a_mount_that_takes_over(self, known, unproven):
        directory = known.directory("1")
        directory.write(record_at("/mnt"))
        directory.proof_stats.proved(Proven("out/checkpoint-1", 1, "2025-01-02T03:04:05+00:00"))
        directory.clear(unproven=unproven)
        directory.begin()
        assert [*directory.proof_stats.read().proven_at] == ["out/checkpoint-1"] * unproven

    @pytest.mark.parametrize("unproven", [False, True])
    def test_it_is_known_after_the_end_until_the_next_mount_begins(self, known, unproven):
        directory = known.directory("1")
        assert directory.last() is None
        record = record_at("/mnt")
        directory.write(record)
        assert directory.last() == record
        directory.clear(unproven=unproven)
        directory.clear(unproven=unproven)
        assert directory.last() == record
        assert directory.unfinished() == (record if unproven else None)
        # One that takes over goes on from it, and writes its own only when it is known.
        assert directory.begin() is unproven
        assert directory.last() == (record if unproven else None)
        directory.clear()
        assert directory.unfinished() is None

    def test_it_is_replaced_in_one_step(self, known):
        directory = known.directory("1")
        directory.write(record_at("/first"))
        with (directory.path / RECORD_NAME).open() as reader:
            directory.write(record_at("/second"))
            assert json.load(reader)["spec"]["target"] == "/first"
        assert [path.name for path in directory.path.iterdir()] == [RECORD_NAME]

    @pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": 1}', '{"spec": null}'])
    def test_one_that_cannot_be_read_says_what_to_do(self, known, text):
        directory = known.directory("1")
        (directory.path / RECORD_NAME).write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            directory.read()
        assert str(directory.path) in caught.value.message
        assert f"rm -r {directory.path}" in caught.value.hint

    def test_the_logs_outlive_it(self, known):
        directory = known.directory("1")
        directory.log.write_text("daemon")
        directory.supervisor_log.write_text("supervisor")
        directory.write(record_at("/mnt"))
        directory.clear()
        assert directory.log.read_text() == "daemon"
        assert directory.supervisor_log.read_text() == "supervisor"


class TestNotes:
    def test_the_account_of_the_proofs_ends_with_the_mount(self, known):
        directory = known.directory("1")
        directory.proof_stats.record_error("The store is away.")
        directory.clear()
        assert directory.proof_stats.read() == ProofStats()

    def test_what_a_training_told_after_that_is_not_of_the_next_mount(self, known):
        directory = known.directory("1")
        directory.proof_stats.record_error("The store is away.")
        directory.begin()
        assert directory.proof_stats.read() == ProofStats()
        directory.proof_stats.record_error("The store is away again.")
        directory.write(record_at("/mnt"))
        directory.begin()
        assert directory.proof_stats.read().complaint is not None, (
            "it takes over from one that died"
        )

    def test_strays_add_up(self, known):
        directory = known.directory("1")
        assert directory.bypassed.paths() == ()
        directory.bypassed.add(astray("b", "a"))
        directory.bypassed.add(astray("c", "a"))
        assert directory.bypassed.paths() == ("a", "b", "c")
        # Whoever looks once more after the unmount still has to know.
        directory.clear()
        assert directory.bypassed.paths() == ("a", "b", "c")
        assert not directory.begin()
        assert directory.bypassed.paths() == ()

    def test_the_same_name_again_is_another_stray_and_the_same_file_is_not(self, known):
        directory = known.directory("1")
        (first,) = astray("a", mark="1")
        directory.bypassed.add([first])
        directory.bypassed.add([first, *astray("a", mark="2")])
        assert [bypassed_file.mark for bypassed_file in directory.bypassed.found()] == ["1", "2"]

    def test_what_an_earlier_version_noted_is_read_and_hides_no_new_stray(self, known):
        directory = known.directory("1")
        record = record_at("/mnt")
        directory.write(replace(record, strays_before=(("a", ""),)))
        written = json.loads((directory.path / "record.json").read_text())
        written["strays_before"] = ["a"]
        json_file.replace(directory.path / "record.json", written)
        noted = {"paths": ["a"], "anew": {}, "removed": {}}
        json_file.replace(directory.path / "strays.json", noted)
        before = directory.read().strays_before
        assert directory.bypassed.unnamed(before) == ()
        again = astray("a")
        directory.bypassed.add(again)
        assert directory.bypassed.unnamed(before) == again

    def test_what_lies_there_from_before_a_directory_was_begun_is_over(self, known):
        directory = known.directory("1")
        old = astray("run/checkpoint-3/a", "b")
        directory.bypassed.begin("run/checkpoint-3")
        directory.bypassed.add(old)
        assert directory.bypassed.paths() == ("b",)

    def test_strays_of_a_directory_that_is_written_again_are_forgotten(self, known):
        directory = known.directory("1")
        directory.bypassed.begin("run/checkpoint-3")
        names = ("run/checkpoint-3/a", "run/checkpoint-30/a", "run/checkpoint-3")
        directory.bypassed.add(astray(*names))
        directory.bypassed.begin("run/checkpoint-3")
        assert directory.bypassed.paths() == ("run/checkpoint-3", "run/checkpoint-30/a")

    def test_a_request_to_stop(self, known):
        directory = known.directory("1")
        assert not directory.asked_to_stop()
        directory.ask_to_stop()
        directory.ask_to_stop()
        assert directory.asked_to_stop()
        directory.begin()
        directory.begin()
        assert not directory.asked_to_stop()


class TestPrivacy:
    def test_nobody_else_can_read_any_of_it(self, known):
        old = os.umask(0)
        try:
            directory = known.directory("1")
            directory.write(record_at("/mnt"))
            directory.write_file("rclone.conf", "x")
            directory.ask_to_stop()
        finally:
            os.umask(old)
        assert mode(known.root) == mode(directory.path) == 0o700
        assert {mode(path) for path in directory.path.iterdir()} == {0o600}

    def test_a_directory_that_others_could_read_is_closed(self, known):
        known.root.mkdir(mode=0o755)
        known.directory("1")
        assert mode(known.root) == 0o700

    def test_a_link_in_its_place_is_refused(self, known, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        known.root.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ConfigurationError, match="belongs to somebody else"):
            known.directory("1")

    def test_a_directory_of_somebody_else_is_refused(self, known):
        known.root.mkdir()
        if os.geteuid() == 0:
            os.chown(known.root, 65534, -1)
            theirs = known
        else:
            theirs = State(Path("/usr"))
        with pytest.raises(ConfigurationError, match="belongs to somebody else"):
            theirs.directory("1")

    def test_a_file_in_its_place_is_refused(self, known):
        known.root.write_text("")
        with pytest.raises(ConfigurationError) as caught:
            known.directory("1")
        assert "MOUNTKIT_STATE_DIR" in caught.value.hint

    def test_a_file_is_made_anew_and_never_through_a_link(self, known, tmp_path):
        directory = known.directory("1")
        (directory.path / "rclone.conf").symlink_to(tmp_path / "victim")
        directory.write_file("rclone.conf", "text")
        assert not (tmp_path / "victim").exists()
        assert (directory.path / "rclone.conf").read_text() == "text"

    def test_a_path_too_long_for_a_socket_is_refused(self, tmp_path):
        longest = LONGEST_DIRECTORY - len("/123456789012")
        State(tmp_path / ("x" * (longest - len(str(tmp_path)) - 1))).directory("123456789012")
        with pytest.raises(ConfigurationError) as caught:
            State(tmp_path / ("x" * (longest - len(str(tmp_path))))).directory("123456789012")
        assert "MOUNTKIT_STATE_DIR" in caught.value.hint


class TestAllMounts:
    def test_none_where_there_is_no_directory(self, known):
        assert known.records() == ()
        assert known.at("/mnt") is None
        assert known.containing("/mnt") is None

    def test_they_are_listed_by_target(self, known):
        for number, target in enumerate(("/b", "/a", "/c")):
            known.directory(str(number)).write(record_at(target))
        known.directory("empty")
        assert [record.spec.target for record in known.records()] == ["/a", "/b", "/c"]
        assert known.at("/b").spec.target == "/b"
        assert known.at("/b/inside") is None

    @pytest.mark.parametrize(
        ("path", "target"),
        [
            ("/mnt/run", "/mnt/run"),
            ("/mnt/run/checkpoint-3/model", "/mnt/run"),
            ("/mnt/run/inner/x", "/mnt/run/inner"),
            ("/mnt/run-2", None),
            ("/mnt", None),
        ],
    )
    def test_the_innermost_that_covers_a_path(self, known, path, target):
        known.directory("1").write(record_at("/mnt/run"))
        known.directory("2").write(record_at("/mnt/run/inner"))
        found = known.containing(path)
        assert (found and found.spec.target) == target

    @pytest.mark.fault(9, 37)
    @pytest.mark.parametrize("living", ["1", "2"])
    @pytest.mark.parametrize("was", [SERVING, FAILED])
    def test_the_record_of_a_dead_mount_hides_no_living_one(self, known, living, was):
        for name in ("1", "2"):
            record = record_at("/mnt")
            if name != living:
                nobody = ProcessIdentity(0, 0, "")
                record = replace(record, state=was, supervisor=nobody, since="2999-01-01T00:00:00Z")
            known.directory(name).write(replace(record, reason=name))
        assert known.at("/mnt").reason == living
        assert known.containing("/mnt/inside").reason == living

    @pytest.mark.fault(9, 37)
    @pytest.mark.parametrize("living", ["1", "2"])
    def test_nor_does_one_that_was_given_up(self, known, living):
        for name in ("1", "2"):
            was = SERVING if name == living else FAILED
            known.directory(name).write(replace(record_at("/mnt"), state=was, reason=name))
        assert known.at("/mnt").reason == living

    def test_a_file_among_the_directories_is_passed_over(self, known):
        known.directory("1").write(record_at("/mnt"))
        (known.root / "stray").write_text("")
        assert len(known.records()) == 1

    def test_a_broken_record_hides_no_other(self, known, caplog):
        known.directory("1").write(record_at("/mnt"))
        (known.directory("2").path / RECORD_NAME).write_text("{")
        assert [record.spec.target for record in known.records()] == ["/mnt"]
        assert "rm -r" in caplog.text


@pytest.mark.fault(15)
def test_a_write_that_fails_leaves_no_draft_behind(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    json_file.replace(tmp_path / "record.json", {"what": "was there"})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            json_file.replace(tmp_path / "record.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
    assert json_file.load(tmp_path / "record.json") == {"what": "was there"}
